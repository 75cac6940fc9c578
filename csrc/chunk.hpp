// The work on one chunk, over the eight float64 of an instruction set. Each instruction set's
// source includes this once, after Eight, fill, load, store, widen and add_exact. All of it is
// local to that source: a linker must not swap the code of one instruction set for another's.
#pragma once

#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "instructions.hpp"
#include "output.hpp"

namespace llmagentos {
namespace {

template <class Work>
void for_each_span(std::size_t start, std::size_t stop, std::size_t size, const Work& work) {
    for (; start < stop; start += size) {
        const std::size_t left = stop - start;
        work(Span{start, left < size ? left : size});
    }
}

// A part of the rows of a group: pace.part values each, of one type. The squares of row k are added
// up in squares[k].
struct Tile {
    const std::byte* values[group_limit];
    const double* weights;
    Lanes* squares;
    Pace pace;
};

// sums[j] = (sums[j] + w_0 x_0[j]) + ... + w_{n-1} x_{n-1}[j], from left to right; `fresh` sums
// start at 0. What is asked for ahead may lie behind the end of a row: that is no access.
template <Element element, bool fresh, std::size_t n>
void add_tile(double* sums, const Tile& tile) {
    constexpr std::size_t width = bytes_of(element);
    constexpr std::size_t values_per_line = line_bytes / width;
    const std::byte* values[n];
    Eight weights[n], squares[n];
#pragma GCC unroll 8
    for (std::size_t k = 0; k < n; ++k) {
        values[k] = tile.values[k];
        weights[k] = fill(tile.weights[k]);
        squares[k] = load(tile.squares[k].data());
    }
    for (std::size_t line = 0; line < tile.pace.part; line += values_per_line) {
#pragma GCC unroll 8
        for (std::size_t k = 0; k < n; ++k) {
            __builtin_prefetch(values[k] + line * width + tile.pace.bytes_ahead);
        }
#pragma GCC unroll 4
        for (std::size_t j = line; j < line + values_per_line; j += lane_count) {
            Eight sum = fresh ? fill(0.0) : load(sums + j);
#pragma GCC unroll 8
            for (std::size_t k = 0; k < n; ++k) {
                const Eight x = widen<element>(values[k] + j * width);
                sum = add_exact(sum, weights[k], x);
                squares[k] = add_exact(squares[k], x, x);
            }
            store(sums + j, sum);
        }
    }
#pragma GCC unroll 8
    for (std::size_t k = 0; k < n; ++k) store(tile.squares[k].data(), squares[k]);
}

using AddTile = void (*)(double* sums, const Tile& tile);

template <Element element, bool fresh, std::size_t... n>
void add_tile_of(std::index_sequence<n...>, std::size_t count, double* sums, const Tile& tile) {
    constexpr AddTile by_count[] = {add_tile<element, fresh, n + 1>...};
    by_count[count - 1](sums, tile);
}

template <bool fresh>
void add_tile(Element element, std::size_t count, double* sums, const Tile& tile) {
    constexpr std::make_index_sequence<group_limit> counts;
    if (element == Element::float32) {
        add_tile_of<Element::float32, fresh>(counts, count, sums, tile);
    } else if (element == Element::float16) {
        add_tile_of<Element::float16, fresh>(counts, count, sums, tile);
    } else {
        add_tile_of<Element::bfloat16, fresh>(counts, count, sums, tile);
    }
}

const std::byte* at(Row row, std::size_t start) {
    return row.values + start * bytes_of(row.element);
}

// Room for the last values of the rows: as a whole part, with zeros behind them.
struct Padded {
    std::byte values[group_limit][block_size * sizeof(float)];

    const std::byte* copy(std::size_t k, Row row, Span part) {
        const std::size_t bytes = part.count * bytes_of(row.element);
        std::memcpy(values[k], at(row, part.start), bytes);
        std::memset(values[k] + bytes, 0, sizeof values[k] - bytes);
        return values[k];
    }
};

template <bool fresh>
void add_group(double* sums, const Cohort& cohort, const Group& group, Span part, Lanes* squares) {
    Padded padded;
    Tile tile;
    tile.weights = &cohort.weights[group.first];
    tile.squares = squares + group.first;
    tile.pace = cohort.pace;
    for (std::size_t k = 0; k < group.count; ++k) {
        const Row row = cohort.rows[group.first + k];
        const bool whole = part.count == cohort.pace.part;
        tile.values[k] = whole ? at(row, part.start) : padded.copy(k, row, part);
    }
    add_tile<fresh>(cohort.rows[group.first].element, group.count, sums, tile);
}

std::int64_t count_nonfinite(Row row, Span block) {
    Padded padded;
    const double weight = 1.0;
    double values[block_size];
    Lanes squares = {};
    Tile tile{{padded.copy(0, row, block)}, &weight, &squares, {block_size, 0}};
    add_tile<true>(row.element, 1, values, tile);
    std::int64_t count = 0;
    for (const double value : values) count += std::isfinite(value) ? 0 : 1;
    return count;
}

// Finite float32 squares cannot overflow a float64 sum: only a block whose norm is not finite
// holds NaN or Inf, so counting costs nothing elsewhere.
void add_stats(RowStats& stats, const Lanes& squares, Row row, Span block) {
    const double norm = fold_lanes(squares);
    stats.squared_norm += norm;
    if (!std::isfinite(norm)) stats.nonfinite += count_nonfinite(row, block);
}

// Calls visit(part) for every part, which adds its rows, and then adds up the stats.
template <class Visit>
void measure_chunk(const Cohort& cohort, Chunk chunk, Scratch scratch, const Visit& visit) {
    for_each_span(chunk.start, chunk.stop, block_size, [&](Span block) {
        for (std::size_t k = 0; k < cohort.rows.size(); ++k) scratch.squares[k] = {};
        for_each_span(block.start, block.start + block.count, cohort.pace.part, visit);
        for (std::size_t k = 0; k < cohort.rows.size(); ++k) {
            add_stats(scratch.stats[k], scratch.squares[k], cohort.rows[k], block);
        }
    });
}

// Calls write(part, sums) with the finished sums of every part.
template <class Write>
void sum_chunk(const Cohort& cohort, Chunk chunk, Scratch scratch, const Write& write) {
    measure_chunk(cohort, chunk, scratch, [&](Span part) {
        alignas(line_bytes) double sums[block_size];
        if (cohort.groups.empty()) std::memset(sums, 0, sizeof sums);
        for (const Group& group : cohort.groups) {
            const auto add = group.first == 0 ? add_group<true> : add_group<false>;
            add(sums, cohort, group, part, scratch.squares);
        }
        write(part, sums);
    });
}

}  // namespace
}  // namespace llmagentos

#include "epilogue.hpp"
