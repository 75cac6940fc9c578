// Blocks of block_size values that fit the first cache: read, weigh, add, measure.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels.hpp"

namespace llmagentos {

using FloatBlock = std::array<float, block_size>;
using SumBlock = std::array<double, block_size>;

// Rows that are added together, so that a sum is loaded and stored once for all of them.
constexpr std::size_t group_size = 8;

inline float float_at(const std::byte* block, std::size_t j) {
    float value;
    std::memcpy(&value, block + j * sizeof value, sizeof value);
    return value;
}

template <float (*widen)(std::uint16_t)>
void widen_block(FloatBlock& block, const std::byte* values) {
    for (std::size_t j = 0; j < block_size; ++j) {
        std::uint16_t bits;
        std::memcpy(&bits, values + j * sizeof bits, sizeof bits);
        block[j] = widen(bits);
    }
}

// The block of a row that starts at value `start` and has `count` values, as block_size float32:
// the row's own bytes where they are that already, else `scratch`, zero behind the last value.
inline const std::byte* float_block(Row row, std::size_t start, std::size_t count,
                                    FloatBlock& scratch) {
    const std::size_t width = bytes_of(row.element);
    const std::byte* values = row.values + start * width;
    FloatBlock padded;
    if (count < block_size) {
        padded.fill(0.0f);
        std::memcpy(padded.data(), values, count * width);
        values = reinterpret_cast<const std::byte*>(padded.data());
    }
    if (row.element == Element::bfloat16) {
        widen_block<from_bfloat16>(scratch, values);
    } else if (row.element == Element::float16) {
        widen_block<from_float16>(scratch, values);
    } else if (count < block_size) {
        scratch = padded;
    } else {
        return values;
    }
    return reinterpret_cast<const std::byte*>(scratch.data());
}

// sums[j] = (sums[j] + w_0 x_0[j]) + ... + w_{n-1} x_{n-1}[j], from left to right.
template <std::size_t n>
void add_rows(double* __restrict sums, std::array<const std::byte*, n> blocks,
              std::array<double, n> weights) {
    for (std::size_t j = 0; j < block_size; ++j) {
        double sum = sums[j];
        for (std::size_t k = 0; k < n; ++k) sum += weights[k] * double{float_at(blocks[k], j)};
        sums[j] = sum;
    }
}

inline double block_norm(const std::byte* block) {
    std::array<double, lane_count> lanes{};
    for (std::size_t j = 0; j < block_size; j += lane_count) {
        for (std::size_t lane = 0; lane < lane_count; ++lane) {
            const double value = float_at(block, j + lane);
            lanes[lane] += value * value;
        }
    }
    return fold_lanes(lanes);
}

// Finite float32 squares cannot overflow a float64 sum: only a block whose norm is not finite
// holds NaN or Inf, so counting costs nothing elsewhere.
inline RowStats block_stats(const std::byte* block) {
    RowStats stats{block_norm(block), 0};
    if (!std::isfinite(stats.squared_norm)) {
        for (std::size_t j = 0; j < block_size; ++j) {
            stats.nonfinite += static_cast<std::int64_t>(!is_finite(float_at(block, j)));
        }
    }
    return stats;
}

}  // namespace llmagentos
