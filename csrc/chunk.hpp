// The work on one chunk, over the eight float64 of an instruction set. Each instruction set's
// source includes this once, after Eight, fill, load, store, widen and add_exact. All of it is
// local to that source: a linker must not swap the code of one instruction set for another's.
#pragma once

#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "instructions.hpp"
#include "stream.hpp"

namespace llmagentos {
namespace {

struct Block {
    std::size_t start, count;
};

template <class Work>
void for_each_block(Chunk chunk, const Work& work) {
    for (std::size_t start = chunk.start; start < chunk.stop; start += block_size) {
        const std::size_t left = chunk.stop - start;
        work(Block{start, left < block_size ? left : block_size});
    }
}

// Where the rows lie that are read next: their cache lines are asked for one group ahead.
struct Ahead {
    const std::byte* values[group_limit];
    std::size_t count = 0, lines = 0;

    // Always inline: GCC takes a function that only prefetches for one without effect.
    [[gnu::always_inline]] void fetch(std::size_t line) const {
        if (line >= lines) return;
        for (std::size_t k = 0; k < count; ++k) __builtin_prefetch(values[k] + line * line_bytes);
    }
};

// A block of the rows of a group, each block_size values of one type.
struct Tile {
    const std::byte* values[group_limit];
    const double* weights;
    RowStats* stats;
    Ahead ahead;
};

template <Element element>
std::int64_t count_nonfinite(const std::byte* values) {
    std::int64_t count = 0;
    for (std::size_t j = 0; j < block_size; j += lane_count) {
        double lanes[lane_count];
        store(lanes, widen<element>(values + j * bytes_of(element)));
        for (const double value : lanes) count += std::isfinite(value) ? 0 : 1;
    }
    return count;
}

// Finite float32 squares cannot overflow a float64 sum: only a block whose norm is not finite
// holds NaN or Inf, so counting costs nothing elsewhere.
template <Element element>
void add_stats(RowStats& stats, Eight squares, const std::byte* values) {
    std::array<double, lane_count> lanes;
    store(lanes.data(), squares);
    const double norm = fold_lanes(lanes);
    stats.squared_norm += norm;
    if (!std::isfinite(norm)) stats.nonfinite += count_nonfinite<element>(values);
}

// sums[j] = (sums[j] + w_0 x_0[j]) + ... + w_{n-1} x_{n-1}[j], from left to right.
template <Element element, std::size_t n>
void add_tile(double* sums, const Tile& tile) {
    constexpr std::size_t width = bytes_of(element);
    constexpr std::size_t values_per_line = line_bytes / width;
    Eight weights[n], squares[n];
    for (std::size_t k = 0; k < n; ++k) {
        weights[k] = fill(tile.weights[k]);
        squares[k] = fill(0.0);
    }
    for (std::size_t line = 0; line < block_size / values_per_line; ++line) {
        tile.ahead.fetch(line);
#pragma GCC unroll 4
        for (std::size_t i = 0; i < values_per_line; i += lane_count) {
            const std::size_t j = line * values_per_line + i;
            Eight sum = load(sums + j);
#pragma GCC unroll 8
            for (std::size_t k = 0; k < n; ++k) {
                const Eight x = widen<element>(tile.values[k] + j * width);
                sum = add_exact(sum, weights[k], x);
                squares[k] = add_exact(squares[k], x, x);
            }
            store(sums + j, sum);
        }
    }
    for (std::size_t k = 0; k < n; ++k) {
        add_stats<element>(tile.stats[k], squares[k], tile.values[k]);
    }
}

using AddTile = void (*)(double* sums, const Tile& tile);

template <Element element, std::size_t... n>
void add_tile_of(std::index_sequence<n...>, std::size_t count, double* sums, const Tile& tile) {
    constexpr AddTile by_count[] = {add_tile<element, n + 1>...};
    by_count[count - 1](sums, tile);
}

void add_tile(Element element, std::size_t count, double* sums, const Tile& tile) {
    constexpr std::make_index_sequence<group_limit> counts;
    if (element == Element::float32) {
        add_tile_of<Element::float32>(counts, count, sums, tile);
    } else if (element == Element::float16) {
        add_tile_of<Element::float16>(counts, count, sums, tile);
    } else {
        add_tile_of<Element::bfloat16>(counts, count, sums, tile);
    }
}

const std::byte* block_of(Row row, std::size_t start) {
    return row.values + start * bytes_of(row.element);
}

Ahead look_ahead(const Cohort& cohort, std::size_t group, std::size_t start) {
    const Group& next = cohort.groups[group];
    Ahead ahead;
    ahead.count = next.count;
    ahead.lines = block_size * bytes_of(cohort.rows[next.first].element) / line_bytes;
    for (std::size_t k = 0; k < next.count; ++k) {
        ahead.values[k] = block_of(cohort.rows[next.first + k], start);
    }
    return ahead;
}

// Room for the last values of a row: as a whole block, with zeros behind them.
struct Padded {
    std::byte values[group_limit][block_size * sizeof(float)];

    const std::byte* copy(std::size_t k, Row row, Block block) {
        const std::size_t bytes = block.count * bytes_of(row.element);
        std::memset(values[k], 0, sizeof values[k]);
        std::memcpy(values[k], block_of(row, block.start), bytes);
        return values[k];
    }
};

void add_group(double* sums, const Cohort& cohort, const Group& group, Block block,
               const Ahead& ahead, RowStats* stats) {
    Padded padded;
    Tile tile;
    tile.weights = &cohort.weights[group.first];
    tile.stats = stats + group.first;
    tile.ahead = ahead;
    for (std::size_t k = 0; k < group.count; ++k) {
        const Row row = cohort.rows[group.first + k];
        tile.values[k] =
            block.count == block_size ? block_of(row, block.start) : padded.copy(k, row, block);
    }
    add_tile(cohort.rows[group.first].element, group.count, sums, tile);
}

void add_block(double* sums, const Cohort& cohort, Block block, bool is_last, RowStats* stats) {
    const std::size_t groups = cohort.groups.size();
    for (std::size_t g = 0; g < groups; ++g) {
        Ahead ahead;
        if (g + 1 < groups && block.count == block_size) {
            ahead = look_ahead(cohort, g + 1, block.start);
        } else if (!is_last) {
            ahead = look_ahead(cohort, 0, block.start + block_size);
        }
        add_group(sums, cohort, cohort.groups[g], block, ahead, stats);
    }
}

// Calls write(block, sums) with the finished sums of every block.
template <class Write>
void sum_chunk(const Cohort& cohort, Chunk chunk, RowStats* stats, const Write& write) {
    for_each_block(chunk, [&](Block block) {
        alignas(line_bytes) double sums[block_size] = {};
        add_block(sums, cohort, block, chunk.stop - block.start < 2 * block_size, stats);
        write(block, sums);
    });
    finish_stream();
}

}  // namespace
}  // namespace llmagentos

#include "epilogue.hpp"
