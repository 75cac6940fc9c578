// Test rows: random bits at exact lengths and odd addresses, so that a sanitizer sees each slip.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "kernels.hpp"

namespace llmagentos {

// A broken expectation ends the program with its name.
inline void expect(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "failed: %s\n", what);
    std::exit(1);
}

template <class Value>
bool same_bits(const std::vector<Value>& a, const std::vector<Value>& b) {
    return a.size() == b.size() &&
           (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(Value)) == 0);
}

// Every pattern of bits: normal, denormal, Inf, NaN. The memory ends with the last value.
class RandomRow {
  public:
    RandomRow(std::size_t size, Element element, std::size_t offset, std::mt19937& generator)
        : memory_(offset + size * bytes_of(element)),
          scales_(offset + (size + scale_group - 1) / scale_group * sizeof(float)),
          offset_(offset),
          element_(element) {
        for (std::byte& byte : memory_) byte = static_cast<std::byte>(generator());
        for (std::byte& byte : scales_) byte = static_cast<std::byte>(generator());
    }
    Row row() const { return {memory_.data() + offset_, element_, scales_.data() + offset_}; }

  private:
    std::vector<std::byte> memory_, scales_;
    std::size_t offset_;
    Element element_;
};

inline std::int8_t byte_of(Row row, std::size_t j) {
    return static_cast<std::int8_t>(row.values[j]);
}

inline float scale_of(Row row, std::size_t j) {
    float scale;
    std::memcpy(&scale, row.scales + j / scale_group * sizeof scale, sizeof scale);
    return scale;
}

inline float value_of(Row row, std::size_t j) {
    if (row.element == Element::int8) return from_int8(byte_of(row, j), scale_of(row, j));
    if (row.element == Element::float32) {
        float value;
        std::memcpy(&value, row.values + 4 * j, sizeof value);
        return value;
    }
    std::uint16_t bits;
    std::memcpy(&bits, row.values + 2 * j, sizeof bits);
    return row.element == Element::float16 ? from_float16(bits) : from_bfloat16(bits);
}

inline std::vector<float> random_floats(std::size_t size, std::mt19937& generator) {
    std::normal_distribution<float> normal;
    std::vector<float> values(size);
    for (float& value : values) value = normal(generator);
    return values;
}

}  // namespace llmagentos
