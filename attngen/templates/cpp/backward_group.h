// A group of query tiles in the backward: its rows are prepared once, then meet every key block that they see.
#pragma once
#include "backward_rows.h"
#include "strips.h"

namespace attngen {

template <class G, int I = 0, class Args>
static void pack_group_queries(const Args& args, const QueryTile& group, BackScratch<G>& scratch) {
  typedef typename G::branch B;
  typedef Shape<B> S;
  typedef typename B::element element;
  constexpr int D = B::D(I);
  const auto q = B::template q<I>(args, group.b, group.h);
  pack_queries<typename S::Words, element, D>(q, group.begin, group.rows(), scratch.q[I]);
  for (int g = 0; group.part(g, S::QT).rows() > 0; g++) {
    const QueryTile tile = group.part(g, S::QT);
    if (pack_values<typename S::Words, element, D, S::tile::PV_NV, S::QT, S::QT>(
            q, tile.begin, 0, S::QT, tile.rows(),
            scratch.q_panels[I] + (long)g * S::QT / S::Words::per_word * BackScratch<G>::pad(D)))
      scratch.careful[g] |= 1;
  }
  if constexpr (I + 1 < B::dots) pack_group_queries<G, I + 1>(args, group, scratch);
}

// Everything about one row: what the forward saved, and the cotangents of its accumulator, value sum and mass.
template <class K, class G, class Args>
static void prepare_row(const Args& args, const QueryTile& group, int r, BackScratch<G>& scratch, real* dvsum,
                        real* const* copies) {
  typedef typename G::branch B;
  typedef Shape<B> S;
  typename G::Row& row = scratch.rows[r];
  const long q = group.begin + r;
  static_cast<typename B::Row&>(row) = B::row(B::head(args, group.b, group.h), (int)q);
  const real* saved = K::rows(args, group.b, group.h, q) + B::saved_offset;
  row.anchor = saved[0], row.offset = saved[1];
  row.m = B::anchored && row.anchor > -INF ? row.anchor : 0;
  row.totals = {row.m, saved[2], saved[3]};
  const real* more = saved + 4;
  for (int k = 0; k < G::passes; k++) row.pass_m[k] = *more++, row.pass_r[k] = *more++;
  if constexpr (G::scans) more++;
  if constexpr (B::affine_exp2) {
    const real slope = (real)(B::alpha(row) * LOG2E);
    row.slope = slope > (real)1e-30 ? slope : (real)1e-30;
    row.totals.anchor = is_huge(row.offset) ? row.m * B::alpha(row) + B::adjust : (real)(row.offset * LN2);
  }
  G::fill(row);

  real dout[S::DV_PAD] = {}, acc[S::DV_PAD] = {}, vsum[S::DV_PAD] = {};  // zeros beyond Dv, and where nothing was saved
  const auto from = K::dout(args, group.b, group.h);
  // The cotangent of a row without keys reaches nothing, not even the sink.
  const bool absent = !exists(from, q);
  if (!absent && (!B::counts || row.totals.count > 0))
    for (int d = 0; d < B::DV; d++) dout[d] = widen(from.at(q, B::offset + d));
  if constexpr (B::saves_acc) {
    __builtin_memcpy(acc, more, sizeof(real) * B::DV);
    more += B::DV;
  }
  if constexpr (B::saves_vsum) __builtin_memcpy(vsum, more, sizeof(real) * B::DV);
  typedef typename S::Words::number number;
  number* dacc = (number*)scratch.dacc + (long)r * S::DV_PAD;
  const bool empty = absent || (B::drops_massless && row.totals.mass == 0);
  vf dmass = {};
  typename G::Sums sums = {};
  for (int d = 0; d < S::DV_PAD; d += W) {
    vf da = {}, ds = {}, share = {};
    const long count = B::DV - d < W ? B::DV - d : W;
    if (!empty)
      G::columns(row, load(acc + d), load(vsum + d), load(dout + d), d, count, da, ds, share, sums, copies);
    da = select(first_lanes(count), da, vf{}), ds = select(first_lanes(count), ds, vf{});
    store(dacc + d, da);
    // Both parts of dS cancel where a row has one key. So the share of the mass follows the rounding of dA, as if the
    // cotangent of the result had come rounded.
    if constexpr (S::Words::per_word > 1)
      share = select(vb(da == 0), share, share * (load((const number*)dacc + d) / da));
    dmass += share;
    store(dvsum + d, ds);
  }
  row.before = row.dbefore = 0;
  row.dmass = 0;
  if (!empty) row.dmass = G::finish(row, K::dlse(args, group.b, group.h, q), reduce_add(dmass), sums, copies);
}

template <class K, class G, class Args>
static void prepare_group(const Args& args, const QueryTile& group, BackScratch<G>& scratch, real* const* copies) {
  typedef typename G::branch B;
  typedef Shape<B> S;
  for (int g = 0; g < S::G; g++) scratch.careful[g] = 0;
  pack_group_queries<G>(args, group, scratch);
  real dvsum[S::QT * S::DV_PAD];
  for (int g = 0; group.part(g, S::QT).rows() > 0; g++) {
    const QueryTile tile = group.part(g, S::QT);
    const long at = (long)g * S::QT * S::DV_PAD;
    for (int r = 0; r < tile.rows(); r++)
      prepare_row<K, G>(args, group, g * S::QT + r, scratch, dvsum + r * S::DV_PAD, copies);
    typedef typename S::Words::number number;
    if (pack_values<typename S::Words, number, B::DV, S::tile::PV_NV, S::QT, S::QT>(
            rows_of_words<S>(scratch.dacc, (long)g * S::QT), 0, 0, S::QT, tile.rows(),
            scratch.dacc_panels + at / S::Words::per_word))
      scratch.careful[g] |= 2;
    if constexpr (B::sums_values) {
      pack_values<NumberWords, real, B::DV, S::tile::PV_NV, S::QT, S::QT>(
          Rows<const real>{dvsum, S::DV_PAD, 1}, 0, 0, S::QT, tile.rows(), scratch.dvsum_panels + at);
      for (int d = 0; d < S::DV_PAD; d += W) {
        vf total = {};
        for (int r = 0; r < tile.rows(); r++) total += load(dvsum + r * S::DV_PAD + d);
        store(scratch.dvsum_totals + g * S::DV_PAD + d, total);
      }
    }
  }
}

template <class G, class KS, bool SUMS, int I = 0, class Args>
static inline uint64_t pack_block(const Args& args, const QueryTile& q, const TileKeys& t, BackScratch<G>& scratch) {
  typedef typename G::branch B;
  typedef Shape<B> S;
  typedef typename B::element element;
  constexpr int D = B::D(I);
  const auto k = KS::template k<I>(args, q.b, q.h);
  uint64_t not_finite = 0;
  pack_keys<typename S::Words, element, D, S::tile::QK_NV>(k, t.first, t.begin, t.end, t.present, scratch.k[I]);
  if constexpr (SUMS)
    not_finite = pack_values<typename S::Words, element, D, S::tile::PV_NV, S::KT, S::PANEL>(
        k, t.first, t.begin, t.end, t.present, scratch.k_panels[I]);
  if constexpr (I + 1 < B::dots) not_finite |= pack_block<G, KS, SUMS, I + 1>(args, q, t, scratch);
  return not_finite;
}

// All tiles of a group and a key set. `step(g, q, t, partial, finite keys)` has S and dP of the tile in the scratch.
template <class G, class KS, bool SUMS, class Args, class F>
static void visit_tiles(const Args& args, const QueryTile& group, BackScratch<G>& scratch, F&& step) {
  typedef typename G::branch B;
  typedef Shape<B> S;
  const auto v = KS::v(args, group.b, group.h);
  visit_blocks<KS, S::KT, G::scans && !G::ascending>(args, group, WHOLE, [&](long first, long last, const Interval& hull) {
    TileKeys packed = {first, 0, 0, (int)(last - first)};
    cover(packed, hull, S::PANEL);
    const uint64_t not_finite = pack_block<G, KS, SUMS>(args, group, packed, scratch);
    pack_keys<typename S::Words, typename B::element, B::DV, S::tile::QK_NV>(v, first, packed.begin, packed.end,
                                                                             packed.present, scratch.v);
    for (int g = 0; group.part(g, S::QT).rows() > 0; g++) {
      const QueryTile q = group.part(g, S::QT);
      const Interval seen = visible_hull<KS>(args, q, hull.begin, hull.end);
      if (seen.begin >= seen.end) continue;
      TileKeys t = packed;
      cover(t, seen, S::PANEL);
      const int panels = (t.end - t.begin) / S::PANEL;
      const bool finite = (not_finite >> t.begin / S::PANEL & ~(uint64_t)0 >> (64 - panels)) == 0;
      back_scores<G>(scratch, g, q.rows(), t);
      value_cotangents<G>(scratch, g, q.rows(), t);
      const bool full =
          t.end <= t.present && KS::full(args, q.b, q.h, q.begin, q.end, first + t.begin, first + t.end);
      step(g, q, t, !full, finite);
    }
  });
}

// The total of the cotangents of a scan: a pass over the keys.
template <class G, class Args>
static void run_scan(const Args& args, const QueryTile& group, BackScratch<G>& scratch) {
  G::for_each_keyset([&](auto keyset, auto gradient, auto) {
    typedef decltype(keyset) KS;
    typedef decltype(gradient) KG;
    visit_tiles<G, KS, false>(args, group, scratch, [&](int g, const QueryTile& q, const TileKeys& t, bool partial, bool) {
      if (partial)
        scan_rows<true, G, KS, KG>(scratch, g, q.rows(), t);
      else
        scan_rows<false, G, KS, KG>(scratch, g, q.rows(), t);
    });
  });
  for (int r = 0; r < group.rows(); r++) scratch.rows[r].before = 0;
}

// The cotangent of what pass K gave to each row: a pass over the keys.
template <int K, class G, class Args>
static void run_pass(const Args& args, const QueryTile& group, BackScratch<G>& scratch) {
  typedef Shape<typename G::branch> S;
  if constexpr (K >= 0) {
    real worth[S::G * S::QT] = {}, slope[S::G * S::QT] = {};
    if constexpr (G::pass_counts(K)) {
      G::for_each_keyset([&](auto keyset, auto gradient, auto) {
        typedef decltype(keyset) KS;
        typedef decltype(gradient) KG;
        visit_tiles<G, KS, false>(args, group, scratch, [&](int g, const QueryTile& q, const TileKeys& t, bool partial, bool) {
          if (partial)
            pass_rows<true, K, G, KS, KG>(scratch, g, q.rows(), t, worth, slope);
          else
            pass_rows<false, K, G, KS, KG>(scratch, g, q.rows(), t, worth, slope);
        });
      });
    }
    for (int r = 0; r < group.rows(); r++)
      scratch.rows[r].dr[K] = !G::pass_is_root(K) ? worth[r] : slope[r] == 0 ? 0 : -worth[r] / slope[r];
    run_pass<K - 1, G>(args, group, scratch);
  }
}

}  // namespace attngen
