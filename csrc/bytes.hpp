// Sums and squares of int8 rows, block by block.
// Part of chunk.hpp, and local to each instruction set as that is.
#pragma once

namespace llmagentos {
namespace {

constexpr std::size_t block_scales = block_size / scale_group;
constexpr std::size_t columns_at_once = 8 * floats_at_once;

// The squares of a scale's values are added up in two times lane_count parts: value j belongs to
// one of the two that are j mod lane_count.
constexpr std::size_t square_parts = scale_group / columns_at_once * floats_at_once;
static_assert(scale_group % columns_at_once == 0 && square_parts == 2 * lane_count);

// A block of every row of a group: the values of scale i are multiplied by factors[k][i]. What is
// read after this block lies at `ahead`, maybe behind the end of a row: asking for it is no access.
struct ByteTile {
    const std::byte* values[int8_rows];
    const std::byte* ahead[int8_rows];
    float scales[int8_rows][block_scales];
    float factors[int8_rows][block_scales];
    float squares[int8_rows][block_scales][square_parts];
    std::size_t count;
};

// Room for a block of every row, with zeros behind the end of the row.
using ByteRoom = std::byte[int8_rows][block_size];

const std::byte* values_of(Row row, Span block, std::byte* room) {
    if (block.count == block_size) return at(row, block.start);
    std::memset(room, 0, block_size);
    std::memcpy(room, at(row, block.start), block.count);
    return room;
}

void read_scales(float* scales, Row row, Span block) {
    const std::byte* place = row.scales + block.start / scale_group * sizeof(float);
    __builtin_prefetch(place + 2 * line_bytes);
    if (block.count == block_size) {
        std::memcpy(scales, place, block_scales * sizeof(float));
    } else {
        std::memset(scales, 0, block_scales * sizeof(float));
        std::memcpy(scales, place, (block.count + scale_group - 1) / scale_group * sizeof(float));
    }
}

void read_group(ByteTile& tile, const Cohort& cohort, const Group& group, Span block,
                ByteRoom& room) {
    const std::size_t n = cohort.rows.size();
    tile.count = group.count;
    for (std::size_t k = 0; k < group.count; ++k) {
        const Row row = cohort.rows[group.first + k];
        const double weight = cohort.weights[group.first + k];
        const std::size_t next = group.first + group.count + k;
        tile.values[k] = values_of(row, block, room[k]);
        tile.ahead[k] = at(cohort.rows[next % n], block.start + (next < n ? 0 : block_size));
        read_scales(tile.scales[k], row, block);
        for (std::size_t i = 0; i < block_scales; ++i) {
            tile.factors[k][i] = int8_factor(weight, tile.scales[k][i]);
        }
    }
}

// totals[i] = factor_0 q_0[j + i] + ... + factor_{n-1} q_{n-1}[j + i], from left to right in
// float32, for as many columns as the registers hold.
void add_columns(float* totals, ByteTile& tile, std::size_t j) {
    const std::size_t scale = j / scale_group, part = j % scale_group / 8;
    Floats sums[8];
#pragma GCC unroll 8
    for (Floats& sum : sums) sum = fill_floats(0.0f);
    for (std::size_t k = 0; k < tile.count; ++k) {
        const std::byte* values = tile.values[k] + j;
        const Floats factor = fill_floats(tile.factors[k][scale]);
        Floats squares[2] = {fill_floats(0.0f), fill_floats(0.0f)};
#pragma GCC unroll 2
        for (std::size_t i = 0; i < columns_at_once; i += line_bytes) {
            __builtin_prefetch(tile.ahead[k] + j + i, 0, 2);
        }
#pragma GCC unroll 8
        for (std::size_t i = 0; i < 8; ++i) {
            const Floats q = widen_bytes(values + i * floats_at_once);
            sums[i] = add_product(sums[i], factor, q);
            squares[i % 2] = add_exact(squares[i % 2], q, q);
        }
        const Floats both = add_exact(squares[0], fill_floats(1.0f), squares[1]);
        store_floats(tile.squares[k][scale] + part, both);
    }
#pragma GCC unroll 8
    for (std::size_t i = 0; i < 8; ++i) store_floats(totals + i * floats_at_once, sums[i]);
}

Eight widen_floats(const float* floats) {
    return widen<Element::float32>(reinterpret_cast<const std::byte*>(floats));
}

// Squares as arithmetic.hpp has them for int8 rows.
Lanes lanes_of(const float* scales, const float (*squares)[square_parts]) {
    const Eight zero = fill(0.0), one = fill(1.0);
    Eight sum = zero;
#pragma GCC unroll 8
    for (std::size_t i = 0; i < block_scales; ++i) {
        const double scale = scales[i];
        const Eight low = widen_floats(squares[i]), high = widen_floats(squares[i] + lane_count);
        const Eight product = add_exact(zero, fill(scale * scale), add_exact(low, one, high));
        sum = add_exact(sum, one, product);
    }
    Lanes lanes;
    store(lanes.data(), sum);
    return lanes;
}

// As add_group does it, for a block.
template <bool fresh>
void add_bytes(double* sums, const Cohort& cohort, const Group& group, Span block, Lanes* squares) {
    alignas(line_bytes) ByteRoom room;
    alignas(line_bytes) ByteTile tile;
    read_group(tile, cohort, group, block, room);
    for (std::size_t j = 0; j < block_size; j += columns_at_once) {
        alignas(line_bytes) float totals[columns_at_once];
        add_columns(totals, tile, j);
        for (std::size_t i = 0; i < columns_at_once; i += lane_count) {
            const Eight total = widen_floats(totals + i);
            double* place = sums + j + i;
            store(place, fresh ? total : add_exact(load(place), fill(1.0), total));
        }
    }
    for (std::size_t k = 0; k < group.count; ++k) {
        squares[group.first + k] = lanes_of(tile.scales[k], tile.squares[k]);
    }
}

Span block_at(std::size_t start, Chunk chunk) {
    const std::size_t left = chunk.stop - start;
    return {start, left < block_size ? left : block_size};
}

// The squares of the int8 rows alone.
void measure_bytes(const Cohort& cohort, Span block, Lanes* squares) {
    alignas(line_bytes) double unread[block_size];
    for (std::size_t k = 0; k < cohort.rows.size(); ++k) {
        if (cohort.rows[k].element != Element::int8) continue;
        add_bytes<true>(unread, cohort, {k, 1}, block, squares);
    }
}

}  // namespace
}  // namespace llmagentos
