// The work on one chunk, over the eight float64 of an instruction set. Each instruction set's
// source includes this once, after Eight, Floats and what is done with them. All of it is local to
// that source: a linker must not swap the code of one instruction set for another's.
#pragma once

#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "instructions.hpp"
#include "output.hpp"

namespace llmagentos {
namespace {

constexpr std::size_t floats_at_once = sizeof(Floats) / sizeof(float);

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

// int8 rows come decoded; those that are summed go to add_bytes.
template <bool fresh>
void add_tile(Element element, std::size_t count, double* sums, const Tile& tile) {
    constexpr std::make_index_sequence<group_limit> counts;
    if (element == Element::float16) {
        add_tile_of<Element::float16, fresh>(counts, count, sums, tile);
    } else if (element == Element::bfloat16) {
        add_tile_of<Element::bfloat16, fresh>(counts, count, sums, tile);
    } else {
        add_tile_of<Element::float32, fresh>(counts, count, sums, tile);
    }
}

const std::byte* at(Row row, std::size_t start) {
    return row.values + start * bytes_of(row.element);
}

// Values [start, start + count) of an int8 row as float32; start is a multiple of scale_group, or
// the part lies within one group.
void decode(float* place, Row row, Span part) {
    const auto* bytes = reinterpret_cast<const std::int8_t*>(row.values);
    for_each_span(part.start, part.start + part.count, scale_group, [&](Span group) {
        float scale;
        std::memcpy(&scale, row.scales + group.start / scale_group * sizeof scale, sizeof scale);
        for (std::size_t j = 0; j < group.count; ++j) {
            place[group.start - part.start + j] = from_int8(bytes[group.start + j], scale);
        }
    });
}

// Room for a part of every row of a group, where the rows themselves cannot be read as they lie:
// int8, decoded, and the last values of a row, with zeros behind them.
struct Room {
    alignas(line_bytes) std::byte values[group_limit * block_size * sizeof(float)];

    const std::byte* copy(std::size_t k, Row row, Span part, std::size_t size) {
        std::byte* place = values + k * size * sizeof(float);
        const std::size_t width =
            row.element == Element::int8 ? sizeof(float) : bytes_of(row.element);
        if (row.element == Element::int8) {
            decode(reinterpret_cast<float*>(place), row, part);
        } else {
            std::memcpy(place, at(row, part.start), part.count * width);
        }
        std::memset(place + part.count * width, 0, (size - part.count) * width);
        return place;
    }
};

}  // namespace
}  // namespace llmagentos

#include "bytes.hpp"

namespace llmagentos {
namespace {

template <bool fresh>
void add_group(double* sums, const Cohort& cohort, const Group& group, Span part, Lanes* squares) {
    const Element element = cohort.rows[group.first].element;
    if (element == Element::int8) return add_bytes<fresh>(sums, cohort, group, part, squares);
    Room room;
    Tile tile;
    tile.weights = &cohort.weights[group.first];
    tile.squares = squares + group.first;
    tile.pace = cohort.pace;
    for (std::size_t k = 0; k < group.count; ++k) {
        const Row row = cohort.rows[group.first + k];
        const bool as_it_lies = part.count == tile.pace.part;
        tile.values[k] = as_it_lies ? at(row, part.start) : room.copy(k, row, part, tile.pace.part);
    }
    add_tile<fresh>(element, group.count, sums, tile);
}

std::int64_t count_nonfinite(Row row, Span block) {
    Room room;
    const double weight = 1.0;
    double values[block_size];
    Lanes squares = {};
    Tile tile{{room.copy(0, row, block, block_size)}, &weight, &squares, {block_size, 0}};
    add_tile<true>(row.element, 1, values, tile);
    std::int64_t count = 0;
    for (const double value : values) count += std::isfinite(value) ? 0 : 1;
    return count;
}

// Counting costs nothing where the norm shows that all values are finite.
void add_stats(RowStats& stats, const Lanes& squares, Row row, Span block) {
    double norm = fold_lanes(squares);
    if (!(norm < suspect_norm)) {
        const std::int64_t nonfinite = count_nonfinite(row, block);
        stats.nonfinite += nonfinite;
        if (nonfinite > 0) norm += infinity;
    }
    stats.squared_norm += norm;
}

// Calls visit(part) for every part, which adds its rows and their squares, and then adds up the
// stats.
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
