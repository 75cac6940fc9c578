// Sums and squares of narrow rows in float32, a tile's values at a time.
// Part of chunk.hpp, and local to each instruction set as that is.
#pragma once

#include <cstring>

#include "columns.hpp"

namespace llmagentos {
namespace {

// The sums that the registers hold. Where they are not those of a whole tile, its squares are kept
// until the last of them.
constexpr std::size_t narrow_sums = 8, narrow_columns = narrow_sums * floats_at_once;
static_assert(tile_size == scale_group && scale_group % narrow_columns == 0);

// Value j of a tile goes to float j mod 16.
constexpr std::size_t square_floats = 2 * lane_count;
struct Squares {
    Floats parts[square_floats / floats_at_once];
};

// The factors of a block. The scales that are asked for ahead may lie behind the row's last.
void set_factors(Factors& factors, Row row, double weight, Range block) {
    static_assert(block_scales == lane_count);
    if (row.element != Element::int8) {
        store_floats(factors.of_values, fill(weight));
        return store(factors.of_squares, fill(1.0));
    }
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
[[gnu::always_inline]] inline void add_squares(Lanes& squares, double factor, const Squares& of_q) {
    const Eight product = add_exact(fill(0.0), fill(factor), in_lanes(of_q.parts));
    store(squares.data(), add_exact(load(squares.data()), fill(1.0), product));
}

// The square of a bfloat16 may be too small for float32.
template <Element element>
[[gnu::always_inline]] inline Floats add_square(Floats sum, Floats q) {
    return element == Element::bfloat16 ? add_fused(sum, q, q) : add_exact(sum, q, q);
}

// sums[i] += factor q[i], as many columns as there are sums, and their squares.
template <Element element>
[[gnu::always_inline]] inline void add_row(Floats* sums, Squares& squares, const std::byte* values,
                                           float factor, Lead lead) {
    constexpr std::size_t step = floats_at_once * bytes_of(element);
    const Floats factors = fill_floats(factor);
#pragma GCC unroll 8
    for (std::size_t i = 0; i < narrow_sums; ++i) {
        const std::byte* place = values + i * step;
        if (i * step % line_bytes == 0) ask_ahead(place, lead);
        const Floats q = widen_narrow<element>(place);
        sums[i] = add_product(sums[i], factors, q);
        Floats& part = squares.parts[i % (square_floats / floats_at_once)];
        part = add_square<element>(part, q);
    }
}

// totals[j] = factor_0 q_0[j] + ... + factor_{n-1} q_{n-1}[j], from left to right in float32, for
// the values of one tile.
template <Element element>
[[gnu::always_inline]] inline void add_narrow_tile(float* totals, const Slice& slice) {
    Squares kept[narrow_rows];
    const std::size_t scale = slice.start % block_size / scale_group;
    for (std::size_t j = 0; j < scale_group; j += narrow_columns) {
        const bool last = j + narrow_columns == scale_group;
        Floats sums[narrow_sums];
#pragma GCC unroll 8
        for (Floats& sum : sums) sum = fill_floats(0.0f);
        for (std::size_t k = 0; k < slice.count; ++k) {
            const std::byte* values = at(slice.rows[k], slice.start + j);
            const Factors& factors = slice.factors[k];
            Squares squares = kept[k];
            if (j == 0) {
                for (Floats& part : squares.parts) part = fill_floats(0.0f);
            }
            add_row<element>(sums, squares, values, factors.of_values[scale], slice.lead);
            if (last) add_squares(slice.squares[k], factors.of_squares[scale], squares);
            if (!last) kept[k] = squares;
        }
#pragma GCC unroll 8
        for (std::size_t i = 0; i < narrow_sums; ++i) {
            store_floats(totals + j + i * floats_at_once, sums[i]);
        }
    }
}

// The last values of the rows, with zeros behind them.
template <Element element>
void add_last_narrow_tile(float* totals, const Slice& slice, std::size_t count) {
    constexpr std::size_t width = bytes_of(element);
    alignas(line_bytes) std::byte room[narrow_rows][block_size * width] = {};
    const std::size_t start = slice.start % block_size;
    Row rows[narrow_rows];
    for (std::size_t k = 0; k < slice.count; ++k) {
        std::memcpy(room[k] + start * width, at(slice.rows[k], slice.start), count * width);
        rows[k] = {room[k], element};
    }
    add_narrow_tile<element>(totals,
                             {rows, nullptr, slice.squares, slice.factors, slice.count, start, {}});
}

// For `count` values, at most a tile.
template <Element element>
void add_narrow_tile(float* totals, const Slice& slice, std::size_t count) {
    const bool whole = count == tile_size;
    if (whole) add_narrow_tile<element>(totals, slice);
    if (!whole) add_last_narrow_tile<element>(totals, slice, count);
}

void add_narrow_tile(float* totals, const Slice& slice, std::size_t count) {
    switch (slice.rows->element) {
        case Element::int8:
            return add_narrow_tile<Element::int8>(totals, slice, count);
        case Element::float16:
            return add_narrow_tile<Element::float16>(totals, slice, count);
        default:
            return add_narrow_tile<Element::bfloat16>(totals, slice, count);
    }
}

Eight widen_floats(const float* floats) {
    return widen<Element::float32>(reinterpret_cast<const std::byte*>(floats));
}

// As add_group does it.
template <bool fresh>
void add_narrow_part(double* sums, Slice slice, Range part) {
    for_each_range(0, part.count, tile_size, [&](Range tile) {
        alignas(line_bytes) float totals[tile_size];
        slice.start = part.start + tile.start;
        add_narrow_tile(totals, slice, tile.count);
        for (std::size_t j = 0; j < tile_size; j += lane_count) {
            const Eight total = widen_floats(totals + j);
            double* place = sums + tile.start + j;
            store(place, fresh ? total : add_exact(load(place), fill(1.0), total));
        }
    });
}

}  // namespace
}  // namespace llmagentos
