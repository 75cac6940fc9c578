// Sums and squares of float32 rows, as many columns at a time as the registers hold.
// Part of chunk.hpp, and local to each instruction set as that is.
#pragma once

#include "places.hpp"

namespace llmagentos {
namespace {

// Rows of one type from value `start` on; the squares of row k are added up in squares[k]. What is
// asked for ahead may lie behind the end of a row: that is no access.
struct Slice {
    const Row* rows;
    const double* weights;
    Lanes* squares;
    const Factors* factors;
    std::size_t count, start;
    Lead lead;
};

// Asks for the line that is read `lead` after this place.
[[gnu::always_inline]] inline void ask_ahead(const std::byte* place, Lead lead) {
    if (lead.into_second_cache) {
        __builtin_prefetch(place + lead.bytes, 0, 2);
    } else {
        __builtin_prefetch(place + lead.bytes);
    }
}

// As many columns as the registers hold sums for.
constexpr std::size_t columns_at_once = sums_at_once * lane_count;
static_assert(tile_size % columns_at_once == 0);

// sums[j] = (sums[j] + w_0 x_0[start + j]) + ... + w_{n-1} x_{n-1}[start + j], from left to right;
// `fresh` sums start at 0.
template <bool fresh>
[[gnu::always_inline]] inline void add_columns(double* sums, const Slice& slice) {
    constexpr std::size_t step = lane_count * sizeof(float);
    Eight totals[sums_at_once];
#pragma GCC unroll 16
    for (std::size_t i = 0; i < sums_at_once; ++i) {
        totals[i] = fresh ? fill(0.0) : load(sums + i * lane_count);
    }
    for (std::size_t k = 0; k < slice.count; ++k) {
        const std::byte* values = at(slice.rows[k], slice.start);
        const Eight weight = fill(slice.weights[k]);
        Eight square = load(slice.squares[k].data());
#pragma GCC unroll 16
        for (std::size_t i = 0; i < sums_at_once; ++i) {
            if (i * step % line_bytes == 0) ask_ahead(values + i * step, slice.lead);
            const Eight x = widen<Element::float32>(values + i * step);
            totals[i] = add_exact(totals[i], weight, x);
            square = add_exact(square, x, x);
        }
        store(slice.squares[k].data(), square);
    }
#pragma GCC unroll 16
    for (std::size_t i = 0; i < sums_at_once; ++i) store(sums + i * lane_count, totals[i]);
}

template <bool fresh>
[[gnu::always_inline]] inline void add_tile(double* sums, Slice slice) {
    for (std::size_t j = 0; j < tile_size; j += columns_at_once) {
        add_columns<fresh>(sums + j, slice);
        slice.start += columns_at_once;
    }
}

// The last values of the rows, fewer than a tile, row by row.
template <bool fresh>
void add_last_tile(double* sums, const Slice& slice, std::size_t count) {
    for (std::size_t k = 0; k < slice.count; ++k) {
        Room room;
        const Row row{room.copy(slice.rows[k], {slice.start, count}, tile_size), Element::float32};
        const auto add = fresh && k == 0 ? add_tile<true> : add_tile<false>;
        add(sums, {&row, slice.weights + k, slice.squares + k, nullptr, 1, 0, {}});
    }
}

template <bool fresh>
void add_part(double* sums, Slice slice, Range part) {
    for_each_range(0, part.count, tile_size, [&](Range tile) {
        slice.start = part.start + tile.start;
        if (tile.count == tile_size) {
            add_tile<fresh>(sums + tile.start, slice);
        } else {
            add_last_tile<fresh>(sums + tile.start, slice, tile.count);
        }
    });
}

}  // namespace
}  // namespace llmagentos
