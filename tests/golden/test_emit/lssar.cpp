struct Args {
  Call call;
  const void* q_data;
  const void* k_data;
  const void* v_data;
  void* out_data;
  void* lse_data;
  void* rows_data;
  double x3_offset_value;
  int64_t q_size[4], q_stride[4];
  int64_t k_size[4], k_stride[4];
  int64_t v_size[4], v_stride[4];
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
  int64_t r0_0;
  real r0_1;
  int64_t r0_2;
  real r0_3;
};
struct KeySet0_0 {
  static constexpr bool mask_trivial = false, score_trivial = false, weighted = false;
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
    const int64_t q_first = q_begin, q_last = q_end - 1;
    const int64_t t0 = int64_t(0LL);
    const int64_t t1 = int64_t(1LL);
    const int64_t t2 = (q_last + t1);
    const int64_t t3 = a.v_size[2];
    const int64_t t4 = minimum(t2, t3);
    int64_t begin[] = {t0};
    int64_t end[] = {t4};
    visit_union(begin, end, a.v_size[2], f);
  }
  static bool full(const Args& a, int b, int h, long q_begin, long q_end, long k_begin, long k_end) {
    const int64_t q_first = q_begin, q_last = q_end - 1;
    const int64_t t0 = int64_t(0LL);
    const int64_t t1 = int64_t(1LL);
    const int64_t t2 = (q_first + t1);
    const int64_t t3 = a.v_size[2];
    const int64_t t4 = minimum(t2, t3);
    return (t0 <= k_begin && k_end <= t4);
  }
  static vb mask(const Row0& row, const Keys& keys) {
    const vb t0 = vb(keys.index <= splat(integer(saturated(row.r0_0))));
    return t0;
  }
  static vf score(const Row0& row, const Keys& keys, const vf* dots) {
    const vf t0 = dots[0];
    const vf t1 = (t0 * splat(real(row.r0_1)));
    return t1;
  }
  static vf weight(const Row0& row, const Keys& keys) {
    return splat(real(1));
  }
};

struct Pass0_0 {
  static constexpr int index = 0;
  static constexpr bool anchored = false, anchor_trivial = false, root = false;
  static constexpr bool sums = true, has_sink = false;
  static constexpr real power = real(1.0);
  static vf anchor(const Row0& row, vf s) {
    return s;
  }
  static vf term(const Row0& row, vf s, vf& slope) {
    const vf t0 = softplus(s);
    slope = vf{};
    return t0;
  }
  static real low(const Row0& row, real count) {
    return 0;
  }
  static real high(const Row0& row, real count) {
    return 0;
  }
  static real sink(const Row0& row) {
    return 0;
  }
  static real sink_anchor(const Row0& row) {
    return 0;
  }
  static real sink_term(const Row0& row) {
    return 0;
  }
};
struct Branch0 {
  typedef float element;
  typedef Tile tile;
  static constexpr int dots = 1, DV = 64, offset = 0;
  static constexpr int D(int i) { return 64; }
  static constexpr bool anchored = true, anchor_trivial = false, affine_exp2 = false;
  static constexpr bool has_mass = true, drops_massless = true;
  static constexpr bool psi_is_phi = true, counts = false;
  static constexpr bool sums_values = false, has_sink = false, gives_lse = false, plain_lse = false;
  static constexpr real adjust = 0.0;
  static constexpr int passes = 1, saved_offset = 0;
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
    row.r0_0 = q;
    const int64_t t1 = int64_t(64LL);
    const real t2 = real(t1);
    const real t3 = rsqrt(t2);
    row.r0_1 = t3;
    const int64_t t5 = a.v_size[2];
    row.r0_2 = t5;
    const real t7 = real(a.x3_offset_value);
    row.r0_3 = t7;
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
  template <class F> static void for_each_pass(F&& f) { f(Pass0_0{}); }
  static real alpha(const Row& row) {
    const real t0 = real(1.0);
    return t0;
  }
  static real sink(const Row& row) {
    return 0;
  }
  static real sink_anchor(const Row& row) {
    return 0;
  }
  static real sink_term(const Row& row, real m) {
    return 0;
  }
  static vf anchor(const Row& row, vf s) {
    const vf t0 = softplus(s);
    const real t1 = row.pass_r[0];
    const vf t2 = safe_div(t0, splat(real(t1)));
    const vf t3 = (t2 * splat(real(real(row.r0_2))));
    const vf t4 = (t3 - splat(real(row.r0_3)));
    const real t5 = real(1e-30);
    const vf t6 = maximum(t4, splat(real(t5)));
    const vf t7 = log(t6);
    return t7;
  }
  static real shift(real from, real to) { return exp(real(3.0) * (from - to)); }
  static vf keep(const Row& row, vf s) {
    return vf{};
  }
  static vf phi(const Row& row, vf s, real m, vf before = vf{}) {
    const vf t0 = softplus(s);
    const real t1 = row.pass_r[0];
    const vf t2 = safe_div(t0, splat(real(t1)));
    const vf t3 = (t2 * splat(real(real(row.r0_2))));
    const vf t4 = (t3 - splat(real(row.r0_3)));
    const real t5 = real(1e-30);
    const vb t6 = vb(t4 > splat(real(t5)));
    const real t7 = real(3.0);
    const vf t8 = maximum(t4, splat(real(t5)));
    const vf t9 = log(t8);
    const real t10 = (m + adjust);
    const vf t11 = (t9 - splat(real(t10)));
    const vf t12 = (splat(real(t7)) * t11);
    const vf t13 = exp(t12);
    const real t14 = real(0.0);
    const vf t15 = select(t6, t13, splat(real(t14)));
    return t15;
  }
  static vf psi(const Row& row, vf s, real m) {
    const vf t0 = softplus(s);
    const real t1 = row.pass_r[0];
    const vf t2 = safe_div(t0, splat(real(t1)));
    const vf t3 = (t2 * splat(real(real(row.r0_2))));
    const vf t4 = (t3 - splat(real(row.r0_3)));
    const real t5 = real(1e-30);
    const vb t6 = vb(t4 > splat(real(t5)));
    const real t7 = real(3.0);
    const vf t8 = maximum(t4, splat(real(t5)));
    const vf t9 = log(t8);
    const real t10 = (m + adjust);
    const vf t11 = (t9 - splat(real(t10)));
    const vf t12 = (splat(real(t7)) * t11);
    const vf t13 = exp(t12);
    const real t14 = real(0.0);
    const vf t15 = select(t6, t13, splat(real(t14)));
    return t15;
  }
  static vf finalize(const Row& row, vf acc, const RowTotals& totals, vf vsum, int dim) {
    const Keys columns = {iota() + (integer)dim, dim, W, lanes(true)};
    const vf t0 = safe_div(acc, splat(real(totals.mass)));
    return t0;
  }
  static real lse(const Row& row, const RowTotals& totals) {
    return 0;
  }
};

struct Kernel {
  static constexpr int QT = Tile::QT, G = Tile::G, branches = 1, DO = 64;
  static constexpr int saved_columns = 70;
  static constexpr bool wants_lse = true, masked = true;
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
