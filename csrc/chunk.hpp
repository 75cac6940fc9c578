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

// Rows of one type from value `start` on; the squares of row k are added up in squares[k]. What is
// asked for ahead may lie behind the end of a row: that is no access.
struct Slice {
    const Row* rows;
    const double* weights;
    Lanes* squares;
    const Factors* factors;
    std::size_t count, start, bytes_ahead;
};

// As many columns as the registers hold sums for.
constexpr std::size_t columns_at_once = sums_at_once * lane_count;
static_assert(tile_size % columns_at_once == 0);

// sums[j] = (sums[j] + w_0 x_0[start + j]) + ... + w_{n-1} x_{n-1}[start + j], from left to right;
// `fresh` sums start at 0. int8 rows go to add_bytes.
template <Element element, bool fresh>
[[gnu::always_inline]] inline void add_columns(double* sums, const Slice& slice) {
    constexpr std::size_t width = bytes_of(element), step = lane_count * width;
    Eight totals[sums_at_once];
#pragma GCC unroll 16
    for (std::size_t i = 0; i < sums_at_once; ++i) {
        totals[i] = fresh ? fill(0.0) : load(sums + i * lane_count);
    }
    for (std::size_t k = 0; k < slice.count; ++k) {
        const std::byte* values = slice.rows[k].values + slice.start * width;
        const Eight weight = fill(slice.weights[k]);
        Eight square = load(slice.squares[k].data());
#pragma GCC unroll 16
        for (std::size_t i = 0; i < sums_at_once; ++i) {
            if (i * step % line_bytes == 0) {
                __builtin_prefetch(values + i * step + slice.bytes_ahead);
            }
            const Eight x = widen<element>(values + i * step);
            totals[i] = add_exact(totals[i], weight, x);
            square = add_exact(square, x, x);
        }
        store(slice.squares[k].data(), square);
    }
#pragma GCC unroll 16
    for (std::size_t i = 0; i < sums_at_once; ++i) store(sums + i * lane_count, totals[i]);
}

template <Element element, bool fresh>
[[gnu::always_inline]] inline void add_tile(double* sums, Slice slice) {
    for (std::size_t j = 0; j < tile_size; j += columns_at_once) {
        add_columns<element, fresh>(sums + j, slice);
        slice.start += columns_at_once;
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

// Room for a part of a row that cannot be read as it lies: int8, decoded, and the last values of a
// row, with zeros behind them.
struct Room {
    alignas(line_bytes) std::byte values[block_size * sizeof(float)];

    const std::byte* copy(Row row, Span part, std::size_t size) {
        const bool decoded = row.element == Element::int8;
        const std::size_t width = decoded ? sizeof(float) : bytes_of(row.element);
        if (decoded) {
            decode(reinterpret_cast<float*>(values), row, part);
        } else {
            std::memcpy(values, at(row, part.start), part.count * width);
        }
        std::memset(values + part.count * width, 0, (size - part.count) * width);
        return values;
    }
};

// Where a part of a row can be read: as it lies, else from `room`.
const std::byte* place_of(Row row, Span part, std::size_t size, Room& room) {
    const bool as_it_lies = row.element != Element::int8 && part.count == size;
    return as_it_lies ? at(row, part.start) : room.copy(row, part, size);
}

// The last values of the rows, fewer than a tile, row by row.
template <Element element, bool fresh>
void add_last_tile(double* sums, const Slice& slice, std::size_t count) {
    for (std::size_t k = 0; k < slice.count; ++k) {
        Room room;
        const Row row{room.copy(slice.rows[k], {slice.start, count}, tile_size), element};
        const auto add = fresh && k == 0 ? add_tile<element, true> : add_tile<element, false>;
        add(sums, {&row, slice.weights + k, slice.squares + k, nullptr, 1, 0, 0});
    }
}

template <Element element, bool fresh>
void add_part(double* sums, Slice slice, Span part) {
    for_each_span(0, part.count, tile_size, [&](Span tile) {
        slice.start = part.start + tile.start;
        if (tile.count == tile_size) {
            add_tile<element, fresh>(sums + tile.start, slice);
        } else {
            add_last_tile<element, fresh>(sums + tile.start, slice, tile.count);
        }
    });
}

template <Element element>
void widen_block(double* wide, const std::byte* values) {
    for (std::size_t j = 0; j < block_size; j += lane_count) {
        store(wide + j, widen<element>(values + j * bytes_of(element)));
    }
}

// Missing values at the end of a row are zero.
void widen_block(double* wide, Row row, Span block) {
    Room room;
    const std::byte* values = place_of(row, block, block_size, room);
    if (row.element == Element::float16) {
        widen_block<Element::float16>(wide, values);
    } else if (row.element == Element::bfloat16) {
        widen_block<Element::bfloat16>(wide, values);
    } else {
        widen_block<Element::float32>(wide, values);
    }
}

}  // namespace
}  // namespace llmagentos

#include "bytes.hpp"

namespace llmagentos {
namespace {

Slice slice_of(const Cohort& cohort, const Group& group, std::size_t start, Scratch scratch) {
    const std::size_t first = group.first;
    return {.rows = &cohort.rows[first],
            .weights = &cohort.weights[first],
            .squares = scratch.squares + first,
            .factors = scratch.factors + first,
            .count = group.count,
            .start = start,
            .bytes_ahead = cohort.pace.bytes_ahead};
}

template <bool fresh>
void add_group(double* sums, const Slice& slice, Span part) {
    switch (slice.rows->element) {
        case Element::int8:
            return add_bytes<fresh>(sums, slice, part);
        case Element::float16:
            return add_part<Element::float16, fresh>(sums, slice, part);
        case Element::bfloat16:
            return add_part<Element::bfloat16, fresh>(sums, slice, part);
        case Element::float32:
            return add_part<Element::float32, fresh>(sums, slice, part);
    }
}

std::int64_t count_nonfinite(Row row, Span block) {
    double values[block_size];
    widen_block(values, row, block);
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

// Calls visit(part) for every part of `size` values, which adds its rows and their squares, and
// then adds up the stats.
template <class Visit>
void measure_chunk(const Cohort& cohort, Chunk chunk, Scratch scratch, std::size_t size,
                   const Visit& visit) {
    for_each_span(chunk.start, chunk.stop, block_size, [&](Span block) {
        for (std::size_t k = 0; k < cohort.rows.size(); ++k) {
            scratch.squares[k] = {};
            if (cohort.rows[k].element == Element::int8) {
                set_factors(scratch.factors[k], cohort.rows[k], cohort.weights[k], block);
            }
        }
        for_each_span(block.start, block.start + block.count, size, visit);
        for (std::size_t k = 0; k < cohort.rows.size(); ++k) {
            add_stats(scratch.stats[k], scratch.squares[k], cohort.rows[k], block);
        }
    });
}

bool is_one_group_of_bytes(const Cohort& cohort) {
    return cohort.groups.size() == 1 && cohort.rows[0].element == Element::int8;
}

// Calls write(part, sums) with the finished sums of every part: in float64, and in float32 where
// that is what was added.
template <class Write>
void sum_chunk(const Cohort& cohort, Chunk chunk, Scratch scratch, const Write& write) {
    if (is_one_group_of_bytes(cohort)) {
        return measure_chunk(cohort, chunk, scratch, tile_size, [&](Span tile) {
            alignas(line_bytes) float sums[tile_size];
            add_scaled(sums, slice_of(cohort, cohort.groups[0], tile.start, scratch), tile.count);
            write(tile, sums);
        });
    }
    measure_chunk(cohort, chunk, scratch, cohort.pace.part, [&](Span part) {
        alignas(line_bytes) double sums[block_size];
        if (cohort.groups.empty()) std::memset(sums, 0, part.count * sizeof *sums);
        for (const Group& group : cohort.groups) {
            const auto add = group.first == 0 ? add_group<true> : add_group<false>;
            add(sums, slice_of(cohort, group, part.start, scratch), part);
        }
        write(part, sums);
    });
}

}  // namespace
}  // namespace llmagentos

#include "epilogue.hpp"
