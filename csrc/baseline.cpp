// The kernels for any processor of the platform: the compiler finds the registers.
#include <cstring>

#include "arithmetic.hpp"

namespace llmagentos {
namespace {

constexpr std::size_t sums_at_once = 4;
constexpr std::size_t pair_limit = 2;
constexpr std::size_t run_limit = 4;

struct Eight {
    double values[8];
};

Eight fill(double value) { return {{value, value, value, value, value, value, value, value}}; }

Eight load(const double* values) {
    Eight eight;
    std::memcpy(eight.values, values, sizeof eight.values);
    return eight;
}

void store(double* place, Eight eight) { std::memcpy(place, eight.values, sizeof eight.values); }

template <class Value>
Value value_at(const std::byte* values, std::size_t j) {
    Value value;
    std::memcpy(&value, values + j * sizeof value, sizeof value);
    return value;
}

template <Element element>
Eight widen(const std::byte* values) {
    Eight eight;
    for (std::size_t j = 0; j < 8; ++j) {
        if constexpr (element == Element::float32) {
            eight.values[j] = value_at<float>(values, j);
        } else if constexpr (element == Element::float16) {
            eight.values[j] = from_float16(value_at<std::uint16_t>(values, j));
        } else {
            eight.values[j] = from_bfloat16(value_at<std::uint16_t>(values, j));
        }
    }
    return eight;
}

// sum + a b, where a b is exact.
Eight add_exact(Eight sum, Eight a, Eight b) {
    for (std::size_t j = 0; j < 8; ++j) sum.values[j] += a.values[j] * b.values[j];
    return sum;
}

Eight add_squared_difference(Eight sum, Eight a, Eight b) {
    for (std::size_t j = 0; j < 8; ++j) {
        const double gap = a.values[j] - b.values[j];
        sum.values[j] += gap * gap;
    }
    return sum;
}

struct Floats {
    using Values [[gnu::vector_size(32)]] = float;
    Values values;
};

Floats fill_floats(float value) { return {value - Floats::Values{}}; }

// What min and max put in order whatever the order of their arguments: NaN counts as Inf, -0 as 0.
Floats sortable(Floats floats) {
    const Floats::Values limit = fill_floats(infinity).values;
    return {(floats.values < limit ? floats.values : limit) + 0.0f};
}

void store_floats(float* place, Eight eight) {
    for (std::size_t j = 0; j < 8; ++j) place[j] = static_cast<float>(eight.values[j]);
}

Floats load_floats(const float* values) {
    Floats floats;
    std::memcpy(&floats.values, values, sizeof floats.values);
    return floats;
}

void store_floats(float* place, Floats floats) {
    std::memcpy(place, &floats.values, sizeof floats.values);
}

Floats smaller(Floats a, Floats b) { return {a.values < b.values ? a.values : b.values}; }
Floats larger(Floats a, Floats b) { return {a.values > b.values ? a.values : b.values}; }

// Bytes by way of 16 bits: GCC 12 finds the registers for each step, but not for the whole way at
// once.
template <Element element>
Floats widen_narrow(const std::byte* values) {
    Floats floats;
    if constexpr (element == Element::int8) {
        using Bytes [[gnu::vector_size(8)]] = std::int8_t;
        using Halves [[gnu::vector_size(16)]] = std::int16_t;
        using Words [[gnu::vector_size(32)]] = std::int32_t;
        const auto halves = __builtin_convertvector(value_at<Bytes>(values, 0), Halves);
        const auto words = __builtin_convertvector(halves, Words);
        floats.values = __builtin_convertvector(words, Floats::Values);
    } else {
        constexpr auto decode = element == Element::float16 ? from_float16 : from_bfloat16;
        float decoded[8];
        for (std::size_t j = 0; j < 8; ++j) decoded[j] = decode(value_at<std::uint16_t>(values, j));
        std::memcpy(&floats.values, decoded, sizeof decoded);
    }
    return floats;
}

// sum + a b, rounded twice.
Floats add_product(Floats sum, Floats a, Floats b) { return {sum.values + a.values * b.values}; }

Floats add_exact(Floats sum, Floats a, Floats b) { return add_product(sum, a, b); }

// sum + a b, rounded once: for a and b of at most 12 bits float64 has room for what matters.
Floats add_fused(Floats sum, Floats a, Floats b) {
    using Doubles [[gnu::vector_size(64)]] = double;
    const auto wide = [](Floats floats) { return __builtin_convertvector(floats.values, Doubles); };
    return {__builtin_convertvector(wide(sum) + wide(a) * wide(b), Floats::Values)};
}

// Of 16 floats, float j and j + 8 together.
Eight in_lanes(const Floats (&parts)[2]) {
    const Floats::Values sums = parts[0].values + parts[1].values;
    return widen<Element::float32>(reinterpret_cast<const std::byte*>(&sums));
}

}  // namespace
}  // namespace llmagentos

#include "chunk.hpp"

namespace llmagentos {
extern const InstructionSet baseline = instruction_set("baseline");
}
