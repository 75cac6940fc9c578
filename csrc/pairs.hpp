// Sums over one chunk for every pair of rows. The rows of a block are widened to float64 once and
// are then read from the caches, in small groups against small groups.
// Part of chunk.hpp, and local to each instruction set as that is.
#pragma once

#include <span>
#include <utility>

#include "order.hpp"

namespace llmagentos {
namespace {

using BlockAhead = Ahead<block_size / floats_per_line>;

struct SquaredDifference {
    static Eight add(Eight sum, Eight a, Eight b) { return add_squared_difference(sum, a, b); }
    static constexpr bool with_itself = false;
};

struct Product {
    static Eight add(Eight sum, Eight a, Eight b) { return add_exact(sum, a, b); }
    static constexpr bool with_itself = true;
};

// sums[i n + k] += the block's sum for rows i of the one group and k of the other. With `triangle`
// both groups are one, and only k > i, or k >= i, counts.
template <class Term, std::size_t rows, std::size_t columns, bool triangle>
void add_pairs(double* sums, std::size_t n, const WideRow* left, const WideRow* right,
               BlockAhead& ahead) {
    const auto counts = [](std::size_t i, std::size_t k) {
        return !triangle || k > i || (Term::with_itself && k == i);
    };
    Eight totals[rows][columns];
    for (auto& line : totals) {
        for (Eight& total : line) total = fill(0.0);
    }
    for (std::size_t j = 0; j < block_size; j += lane_count) {
        ahead.ask();
#pragma GCC unroll 4
        for (std::size_t i = 0; i < rows; ++i) {
            const Eight a = load(left[i].values + j);
#pragma GCC unroll 4
            for (std::size_t k = 0; k < columns; ++k) {
                if (counts(i, k))
                    totals[i][k] = Term::add(totals[i][k], a, load(right[k].values + j));
            }
        }
    }
    for (std::size_t i = 0; i < rows; ++i) {
        for (std::size_t k = 0; k < columns; ++k) {
            if (!counts(i, k)) continue;
            Lanes lanes;
            store(lanes.data(), totals[i][k]);
            sums[i * n + k] += fold_lanes(lanes);
        }
    }
}

using AddPairs = void (*)(double* sums, std::size_t n, const WideRow* left, const WideRow* right,
                          BlockAhead& ahead);

template <class Term>
struct PairTable {
    AddPairs rectangles[pair_limit][pair_limit];
    AddPairs triangles[pair_limit];
};

template <class Term, std::size_t... sizes>
constexpr PairTable<Term> pair_table(std::index_sequence<sizes...>) {
    PairTable<Term> table{{}, {add_pairs<Term, sizes + 1, sizes + 1, true>...}};
    const auto fill_line = [&]<std::size_t rows>() {
        ((table.rectangles[rows][sizes] = add_pairs<Term, rows + 1, sizes + 1, false>), ...);
    };
    (fill_line.template operator()<sizes>(), ...);
    return table;
}

// Calls visit(first, count) for groups of about the same size, of at most pair_limit rows: that
// many times that many sums of eight fit the registers.
template <class Visit>
void for_each_group(std::size_t n, const Visit& visit) {
    std::size_t first = 0;
    for (std::size_t left = (n + pair_limit - 1) / pair_limit; left > 0; --left) {
        const std::size_t count = (n - first + left - 1) / left;
        visit(first, count);
        first += count;
    }
}

template <class Term>
void add_all_pairs(double* sums, std::size_t n, const WideRow* wide, BlockAhead& ahead) {
    static constexpr PairTable<Term> table =
        pair_table<Term>(std::make_index_sequence<pair_limit>());
    for_each_group(n, [&](std::size_t i, std::size_t rows) {
        for_each_group(n, [&](std::size_t k, std::size_t columns) {
            if (k < i) return;
            const AddPairs add =
                i == k ? table.triangles[rows - 1] : table.rectangles[rows - 1][columns - 1];
            add(sums + i * n + k, n, wide + i, wide + k, ahead);
        });
    });
}

template <class Term>
void sum_pairs(double* sums, WideRow* wide, std::span<const Row> rows, Chunk chunk) {
    for_each_range(chunk.start, chunk.stop, block_size, [&](Range block) {
        for (std::size_t k = 0; k < rows.size(); ++k) widen_block(wide[k].values, rows[k], block);
        BlockAhead ahead(rows, block.start + block_size);
        add_all_pairs<Term>(sums, rows.size(), wide, ahead);
    });
}

}  // namespace
}  // namespace llmagentos
