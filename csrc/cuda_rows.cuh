// Rows in device memory, 16 bytes at a time where they are aligned to that. Values at and behind
// the end read as zero.
#pragma once

#include <bit>

#include "cuda_vectors.cuh"

namespace llmagentos::cuda {
namespace {

struct alignas(8) TwoWords {
    std::uint32_t words[2];
};

struct alignas(16) FourWords {
    std::uint32_t words[4];
};

// Eight values of a row as they lie in memory, from the first byte on. Two words of int8 values are
// followed by their scale.
struct Encoded {
    FourWords fours[2];

    __device__ std::uint32_t& word(unsigned i) { return fours[i / 4].words[i % 4]; }
    __device__ std::uint32_t word(unsigned i) const { return fours[i / 4].words[i % 4]; }
};

// Values [j, j + 8) of a row whose values are as wide as Value; j is a multiple of 8.
template <class Value>
__device__ Encoded fetch(const std::byte* row, std::size_t j, std::size_t size) {
    constexpr unsigned per_word = sizeof(std::uint32_t) / sizeof(Value);
    const Value* values = reinterpret_cast<const Value*>(row) + j;
    Encoded encoded{};
    if (aligned(row) && j + 8 <= size) {
#pragma unroll
        for (unsigned i = 0; i < 2 / per_word; ++i) {
            encoded.fours[i] = reinterpret_cast<const FourWords*>(values)[i];
        }
    } else {
#pragma unroll
        for (unsigned i = 0; i < 8; ++i) {
            const std::uint32_t value = j + i < size ? values[i] : 0;
            encoded.word(i / per_word) |= value << i % per_word * 8 * sizeof(Value);
        }
    }
    return encoded;
}

constexpr unsigned scale_word = 2;
static_assert(scale_group % 8 == 0, "eight values share a scale");

// Values [j, j + 8) of an int8 row, with their scale.
__device__ Encoded fetch_int8(Row row, std::size_t j, std::size_t size) {
    Encoded encoded{};
    if (j >= size) return encoded;
    if (aligned(row.values) && j + 8 <= size) {
        const TwoWords words = *reinterpret_cast<const TwoWords*>(row.values + j);
        encoded.word(0) = words.words[0];
        encoded.word(1) = words.words[1];
    } else {
#pragma unroll
        for (unsigned i = 0; i < 8; ++i) {
            const auto value = j + i < size ? static_cast<std::uint32_t>(row.values[j + i]) : 0;
            encoded.word(i / 4) |= value << i % 4 * 8;
        }
    }
    encoded.word(scale_word) = reinterpret_cast<const std::uint32_t*>(row.scales)[j / scale_group];
    return encoded;
}

__device__ Encoded fetch(Row row, std::size_t j, std::size_t size) {
    if (row.element == Element::int8) return fetch_int8(row, j, size);
    return row.element == Element::float32 ? fetch<std::uint32_t>(row.values, j, size)
                                           : fetch<std::uint16_t>(row.values, j, size);
}

__device__ std::uint16_t half_word(const Encoded& encoded, unsigned i) {
    return static_cast<std::uint16_t>(encoded.word(i / 2) >> i % 2 * 16);
}

__device__ std::int8_t byte(const Encoded& encoded, unsigned i) {
    return static_cast<std::int8_t>(encoded.word(i / 4) >> i % 4 * 8);
}

__device__ float scale_of(const Encoded& encoded) {
    return std::bit_cast<float>(encoded.word(scale_word));
}

// int8 values come without their scale.
__device__ Floats<8> widen(const Encoded& encoded, Element element) {
    Floats<8> floats;
    if (element == Element::float32) {
#pragma unroll
        for (unsigned i = 0; i < 8; ++i) floats[i] = std::bit_cast<float>(encoded.word(i));
    } else if (element == Element::float16) {
#pragma unroll
        for (unsigned i = 0; i < 8; ++i) floats[i] = from_float16(half_word(encoded, i));
    } else if (element == Element::bfloat16) {
#pragma unroll
        for (unsigned i = 0; i < 8; ++i) floats[i] = from_bfloat16(half_word(encoded, i));
    } else {
#pragma unroll
        for (unsigned i = 0; i < 8; ++i) floats[i] = static_cast<float>(byte(encoded, i));
    }
    return floats;
}

}  // namespace
}  // namespace llmagentos::cuda
