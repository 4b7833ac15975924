struct Args {
  Call call;
  const void* q_data;
  const void* k_data;
  const void* v_data;
  const void* x3_table_data;
  const void* x4_sink_data;
  void* out_data;
  void* lse_data;
  void* rows_data;
  int64_t x5_table_size_1_value;
  int64_t q_size[4], q_stride[4];
  int64_t k_size[4], k_stride[4];
  int64_t v_size[4], v_stride[4];
  int64_t x3_table_size[2], x3_table_stride[2];
  int64_t x4_sink_size[1], x4_sink_stride[1];
  int64_t out_stride[4];
};
struct Tile {
  static constexpr int QT = 24, KT = 192, G = 16;
  static constexpr int QK_MR = 6, QK_NV = 2, PV_MR = 6, PV_NV = 2;
};

struct Row0 {
  const Args* args;
  int b, h, q;
  real pass_m[1], pass_r[1];
  real r0_0;
  int64_t r0_1;
  int64_t r0_2;
  int64_t r0_3;
  int64_t r0_4;
  real r0_5;
};
struct KeySet0_0 {
  static constexpr bool mask_trivial = true, score_trivial = false, weighted = false;
  static constexpr bool by_rows = true;
  static long length(const Args& a, int b, int h) { return a.v_size[2]; }
  template <int I> static auto k(const Args& a, int b, int h) {
    {
    const float* data = (const float*)a.k_data + 0 * a.k_stride[3];
    return rows_of<const float>(Tensor{data, {a.k_stride[0], a.k_stride[1], a.k_stride[2], a.k_stride[3]}}, b, h * a.k_size[1] / a.call.heads);
    }
  }
  static auto v(const Args& a, int b, int h) {
    const float* data = (const float*)a.v_data + 0 * a.v_stride[3];
    return rows_of<const float>(Tensor{data, {a.v_stride[0], a.v_stride[1], a.v_stride[2], a.v_stride[3]}}, b, h * a.v_size[1] / a.call.heads);
  }
  template <class F> static void segments(const Args& a, int b, int h, long q_begin, long q_end, F&& f) {
    if (a.v_size[2] > 0) f(0L, (long)a.v_size[2]);
  }
  static bool full(const Args& a, int b, int h, long q_begin, long q_end, long k_begin, long k_end) {
    return true;
  }
  static vb mask(const Row0& row, const Keys& keys) {
    return lanes(true);
  }
  static vf score(const Row0& row, const Keys& keys, const vf* dots) {
    const vf t0 = dots[0];
    const vf t1 = (t0 * splat(real(row.r0_0)));
    const vi t2 = (splat(integer(row.r0_2)) - keys.index);
    const vi t3 = (t2 + splat(integer(row.r0_3)));
    const vf t4 = lookup_along_keys(((const float*)row.args->x3_table_data) + inside(row.r0_1, row.args->x3_table_size[0]) * row.args->x3_table_stride[0], row.r0_4, -1, row.args->x3_table_size[1], row.args->x3_table_stride[1], keys);
    const vf t5 = (t1 + t4);
    return t5;
  }
  static vf weight(const Row0& row, const Keys& keys) {
    return splat(real(1));
  }
};

struct Branch0 {
  typedef float element;
  typedef Tile tile;
  static constexpr int dots = 1, DV = 64, offset = 0;
  static constexpr int D(int i) { return 64; }
  static constexpr bool anchored = true, anchor_trivial = true, affine_exp2 = true;
  static constexpr bool has_mass = true, drops_massless = true;
  static constexpr bool psi_is_phi = true, counts = true;
  static constexpr bool sums_values = false, has_sink = true, gives_lse = true, plain_lse = true;
  static constexpr real adjust = 0.0;
  static constexpr int passes = 0, saved_offset = 0;
  static constexpr bool scans = false, descends = false, fades = false, sparse = false;
  static constexpr bool saves_acc = true, saves_vsum = false;
  struct Head {
    const Args* args;
    int b, h;
  };
  typedef Row0 Row;
  static Head head(const Args& a, int b, int h) { return {&a, b, h}; }
  static Row row(const Head& head, int q) { return row_of(head, q, 0); }
  static Row row_of(const Head& head, int q_, int64_t visible) {
    const Args& a = *head.args;
    const int64_t b = head.b, h = head.h, q = q_;
    Row row;
    row.args = &a, row.b = head.b, row.h = head.h, row.q = q_;
    {
    const int64_t t0 = int64_t(64LL);
    const real t1 = real(t0);
    const real t2 = rsqrt(t1);
    row.r0_0 = t2;
    row.r0_1 = h;
    row.r0_2 = q;
    const int64_t t6 = int64_t(2LL);
    const int64_t t7 = floor_div(a.x5_table_size_1_value, t6);
    row.r0_3 = t7;
    const int64_t t9 = int64_t(0LL);
    const int64_t t10 = (q - t9);
    const int64_t t11 = (t10 + t7);
    row.r0_4 = t11;
    const real t13 = number(((const float*)a.x4_sink_data)[inside(h, a.x4_sink_size[0]) * a.x4_sink_stride[0]]);
    row.r0_5 = t13;
    }
    return row;
  }
  template <int I> static auto q(const Args& a, int b, int h) {
    {
    const float* data = (const float*)a.q_data + 0 * a.q_stride[3];
    return rows_of<const float>(Tensor{data, {a.q_stride[0], a.q_stride[1], a.q_stride[2], a.q_stride[3]}}, b, h * a.q_size[1] / a.call.heads);
    }
  }
  template <class F> static void for_each_keyset(F&& f) { f(KeySet0_0{}); }
  template <class F> static void for_each_pass(F&& f) { (void)f; }
  static real alpha(const Row& row) {
    const real t0 = real(1.0);
    return t0;
  }
  static real sink(const Row& row) {
    return row.r0_5;
  }
  static real sink_anchor(const Row& row) {
    return row.r0_5;
  }
  static real sink_term(const Row& row, real m) {
    const real t0 = (m + adjust);
    const real t1 = (row.r0_5 - t0);
    const real t2 = exp(t1);
    return t2;
  }
  static vf anchor(const Row& row, vf s) {
    return s;
  }
  static real shift(real from, real to) { return exp(real(1.0) * (from - to)); }
  static vf keep(const Row& row, vf s) {
    return vf{};
  }
  static vf phi(const Row& row, vf s, real m, vf before = vf{}) {
    const real t0 = (m + adjust);
    const vf t1 = (s - splat(real(t0)));
    const vf t2 = exp(t1);
    return t2;
  }
  static vf psi(const Row& row, vf s, real m) {
    const real t0 = (m + adjust);
    const vf t1 = (s - splat(real(t0)));
    const vf t2 = exp(t1);
    return t2;
  }
  static vf finalize(const Row& row, vf acc, const RowTotals& totals, vf vsum, int dim) {
    const Keys columns = {iota() + (integer)dim, dim, W, lanes(true)};
    const vf t0 = safe_div(acc, splat(real(totals.mass)));
    return t0;
  }
  static real lse(const Row& row, const RowTotals& totals) {
    const real t0 = log(totals.mass);
    const real t1 = (totals.anchor + t0);
    return t1;
  }
};

struct Kernel {
  static constexpr int QT = Tile::QT, G = Tile::G, branches = 1, DO = 64;
  static constexpr int saved_columns = 68;
  static constexpr bool wants_lse = true, masked = false;
  static const int32_t* units(const Args& a) { return nullptr; }
  template <class F> static void for_each_branch(F&& f) { f(Branch0{}); }
  template <class T> using Queries = Rows<T>;
  static Queries<float> out(const Args& a, int b, int h) {
    return {(float*)a.out_data + b * a.out_stride[0] + h * a.out_stride[1], (long)a.out_stride[2], (long)a.out_stride[3]};
  }
  static Queries<real> lse(const Args& a, int b, int h) {
    return {(real*)a.lse_data + (b * a.call.heads + h) * a.call.queries, 1, 1};
  }
  static Queries<real> saved(const Args& a, int b, int h) {
    real* rows = (real*)a.rows_data;
    return {rows ? rows + (b * a.call.heads + h) * a.call.queries * saved_columns : rows, saved_columns, 1};
  }
};

}  // namespace
}  // namespace attngen

extern "C" __attribute__((visibility("default"))) int attngen_forward(const void* args) {
  return attngen::run_forward<attngen::Kernel>(*static_cast<const attngen::Args*>(args));
}
