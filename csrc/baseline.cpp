// The kernels for any processor of the platform: the compiler finds the registers.
#include <cstring>

#include "arithmetic.hpp"

namespace llmagentos {
namespace {

constexpr std::size_t group_limit = 2;
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
    float values[8];
};

// What min and max put in order whatever the order of their arguments: NaN counts as Inf, -0 as 0.
Floats sortable(Floats floats) {
    for (float& value : floats.values) value = (value < infinity ? value : infinity) + 0.0f;
    return floats;
}

void store_floats(float* place, Eight eight) {
    for (std::size_t j = 0; j < 8; ++j) place[j] = static_cast<float>(eight.values[j]);
}

Floats fill_floats(float value) {
    Floats floats;
    for (float& each : floats.values) each = value;
    return floats;
}

Floats load_floats(const float* values) {
    Floats floats;
    std::memcpy(floats.values, values, sizeof floats.values);
    return floats;
}

void store_floats(float* place, Floats floats) {
    std::memcpy(place, floats.values, sizeof floats.values);
}

Floats smaller(Floats a, Floats b) {
    for (std::size_t j = 0; j < 8; ++j)
        a.values[j] = a.values[j] < b.values[j] ? a.values[j] : b.values[j];
    return a;
}

Floats larger(Floats a, Floats b) {
    for (std::size_t j = 0; j < 8; ++j)
        a.values[j] = a.values[j] > b.values[j] ? a.values[j] : b.values[j];
    return a;
}

Floats widen_bytes(const std::byte* values) {
    Floats floats;
    for (std::size_t j = 0; j < 8; ++j) floats.values[j] = value_at<std::int8_t>(values, j);
    return floats;
}

// sum + a b, rounded twice.
Floats add_product(Floats sum, Floats a, Floats b) {
    for (std::size_t j = 0; j < 8; ++j) sum.values[j] += a.values[j] * b.values[j];
    return sum;
}

Floats add_exact(Floats sum, Floats a, Floats b) { return add_product(sum, a, b); }

}  // namespace
}  // namespace llmagentos

#include "chunk.hpp"

namespace llmagentos {
extern const InstructionSet baseline = instruction_set("baseline");
}
