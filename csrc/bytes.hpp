// Sums and squares of int8 rows, a scale's values at a time.
// Part of chunk.hpp, and local to each instruction set as that is.
#pragma once

#include <cstring>

#include "columns.hpp"

namespace llmagentos {
namespace {

// The sums in float32 that the registers hold. Where they are not those of a whole scale, its
// squares are kept until the last of them.
constexpr std::size_t byte_sums = 8, byte_columns = byte_sums * floats_at_once;
using ByteSums = Floats[byte_sums];
static_assert(tile_size == scale_group && scale_group % byte_columns == 0);

// The factors of a block. The scales that are asked for ahead may lie behind the row's last.
void set_factors(Factors& factors, Row row, double weight, Span block) {
    static_assert(block_scales == lane_count);
    const std::byte* scales = row.scales + block.start / scale_group * sizeof(float);
    __builtin_prefetch(scales + 2 * line_bytes);
    std::byte room[block_scales * sizeof(float)] = {};
    if (block.count < block_size) {
        std::memcpy(room, scales, (block.count + scale_group - 1) / scale_group * sizeof(float));
        scales = room;
    }
    const Eight zero = fill(0.0), scale = widen<Element::float32>(scales);
    store_floats(factors.of_values, add_exact(zero, fill(weight), scale));
    store(factors.of_squares, add_exact(zero, scale, scale));
}

// Adds s^2 times the sum of q^2, as arithmetic.hpp has it.
[[gnu::always_inline]] inline void add_squares(Lanes& squares, double factor,
                                               Floats bytes_squared) {
    const Eight product = add_exact(fill(0.0), fill(factor), in_lanes(bytes_squared));
    store(squares.data(), add_exact(load(squares.data()), fill(1.0), product));
}

// sums[i] += factor q[i], as many columns as there are sums; gives `squares` plus the sums of q^2.
[[gnu::always_inline]] inline Floats add_row(ByteSums& sums, const std::byte* values, float factor,
                                             Floats squares, Lead lead) {
    const Floats factors = fill_floats(factor);
    Floats others = fill_floats(0.0f);
#pragma GCC unroll 8
    for (std::size_t i = 0; i < byte_sums; ++i) {
        const std::byte* place = values + i * floats_at_once;
        if (i * floats_at_once % line_bytes == 0) ask_ahead(place, lead);
        const Floats q = widen_bytes(place);
        sums[i] = add_product(sums[i], factors, q);
        Floats& part = i % 2 == 0 ? squares : others;
        part = add_exact(part, q, q);
    }
    return add_exact(squares, fill_floats(1.0f), others);
}

// totals[j] = factor_0 q_0[j] + ... + factor_{n-1} q_{n-1}[j], from left to right in float32, for
// the values of one scale.
[[gnu::always_inline]] inline void add_scaled(float* totals, const Slice& slice) {
    alignas(line_bytes) float kept[int8_rows][floats_at_once];
    const std::size_t scale = slice.start % block_size / scale_group;
    for (std::size_t j = 0; j < scale_group; j += byte_columns) {
        const bool last = j + byte_columns == scale_group;
        ByteSums sums;
#pragma GCC unroll 8
        for (Floats& sum : sums) sum = fill_floats(0.0f);
        for (std::size_t k = 0; k < slice.count; ++k) {
            const std::byte* values = slice.rows[k].values + slice.start + j;
            const Factors& factors = slice.factors[k];
            const Floats before = j == 0 ? fill_floats(0.0f) : load_floats(kept[k]);
            const Floats squares =
                add_row(sums, values, factors.of_values[scale], before, slice.lead);
            if (last) add_squares(slice.squares[k], factors.of_squares[scale], squares);
            if (!last) store_floats(kept[k], squares);
        }
#pragma GCC unroll 8
        for (std::size_t i = 0; i < byte_sums; ++i) {
            store_floats(totals + j + i * floats_at_once, sums[i]);
        }
    }
}

// The last values of the rows, with zeros behind them.
void add_last_scaled(float* totals, const Slice& slice, std::size_t count) {
    alignas(line_bytes) std::byte room[int8_rows][block_size] = {};
    const std::size_t start = slice.start % block_size;
    Row rows[int8_rows];
    for (std::size_t k = 0; k < slice.count; ++k) {
        std::memcpy(room[k] + start, at(slice.rows[k], slice.start), count);
        rows[k] = {room[k], Element::int8};
    }
    add_scaled(totals, {rows, nullptr, slice.squares, slice.factors, slice.count, start, {}});
}

// For `count` values, at most a tile.
void add_scaled(float* totals, const Slice& slice, std::size_t count) {
    if (count == tile_size) {
        add_scaled(totals, slice);
    } else {
        add_last_scaled(totals, slice, count);
    }
}

Eight widen_floats(const float* floats) {
    return widen<Element::float32>(reinterpret_cast<const std::byte*>(floats));
}

// As add_group does it.
template <bool fresh>
void add_bytes(double* sums, Slice slice, Span part) {
    for_each_span(0, part.count, tile_size, [&](Span tile) {
        alignas(line_bytes) float totals[tile_size];
        slice.start = part.start + tile.start;
        add_scaled(totals, slice, tile.count);
        for (std::size_t j = 0; j < tile_size; j += lane_count) {
            const Eight total = widen_floats(totals + j);
            double* place = sums + tile.start + j;
            store(place, fresh ? total : add_exact(load(place), fill(1.0), total));
        }
    });
}

}  // namespace
}  // namespace llmagentos
