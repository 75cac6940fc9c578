// The kernels for x86-64-v3: two registers hold eight float64.
#include <immintrin.h>

#include "arithmetic.hpp"

namespace llmagentos {
namespace {

constexpr std::size_t sums_at_once = 4;
constexpr std::size_t pair_limit = 2;
constexpr std::size_t run_limit = 8;

struct Eight {
    __m256d low, high;
};

Eight fill(double value) { return {_mm256_set1_pd(value), _mm256_set1_pd(value)}; }
Eight load(const double* values) { return {_mm256_loadu_pd(values), _mm256_loadu_pd(values + 4)}; }
void store(double* place, Eight eight) {
    _mm256_storeu_pd(place, eight.low);
    _mm256_storeu_pd(place + 4, eight.high);
}

__m128i half(const std::byte* values) {
    return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(values));
}

__m256d from_upper(__m128i bits) {
    return _mm256_cvtps_pd(_mm_castsi128_ps(_mm_slli_epi32(_mm_cvtepu16_epi32(bits), 16)));
}

template <Element>
Eight widen(const std::byte* values);

template <>
Eight widen<Element::float32>(const std::byte* values) {
    const auto* floats = reinterpret_cast<const float*>(values);
    return {_mm256_cvtps_pd(_mm_loadu_ps(floats)), _mm256_cvtps_pd(_mm_loadu_ps(floats + 4))};
}

template <>
Eight widen<Element::float16>(const std::byte* values) {
    return {_mm256_cvtps_pd(_mm_cvtph_ps(half(values))),
            _mm256_cvtps_pd(_mm_cvtph_ps(half(values + 8)))};
}

template <>
Eight widen<Element::bfloat16>(const std::byte* values) {
    return {from_upper(half(values)), from_upper(half(values + 8))};
}

// sum + a b, where a b is exact.
Eight add_exact(Eight sum, Eight a, Eight b) {
    return {_mm256_fmadd_pd(a.low, b.low, sum.low), _mm256_fmadd_pd(a.high, b.high, sum.high)};
}

Eight add_squared_difference(Eight sum, Eight a, Eight b) {
    const __m256d low = _mm256_sub_pd(a.low, b.low), high = _mm256_sub_pd(a.high, b.high);
    return {_mm256_add_pd(sum.low, _mm256_mul_pd(low, low)),
            _mm256_add_pd(sum.high, _mm256_mul_pd(high, high))};
}

using Floats = __m256;

// What min and max put in order whatever the order of their arguments: NaN counts as Inf, -0 as 0.
Floats sortable(Floats floats) {
    return _mm256_add_ps(_mm256_min_ps(floats, _mm256_set1_ps(infinity)), _mm256_setzero_ps());
}

void store_floats(float* place, Eight eight) {
    _mm_storeu_ps(place, _mm256_cvtpd_ps(eight.low));
    _mm_storeu_ps(place + 4, _mm256_cvtpd_ps(eight.high));
}
Floats fill_floats(float value) { return _mm256_set1_ps(value); }
Floats load_floats(const float* values) { return _mm256_loadu_ps(values); }
void store_floats(float* place, Floats floats) { _mm256_storeu_ps(place, floats); }
Floats smaller(Floats a, Floats b) { return _mm256_min_ps(a, b); }
Floats larger(Floats a, Floats b) { return _mm256_max_ps(a, b); }

template <Element>
Floats widen_narrow(const std::byte* values);

template <>
Floats widen_narrow<Element::int8>(const std::byte* values) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(half(values)));
}

template <>
Floats widen_narrow<Element::float16>(const std::byte* values) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values)));
}

template <>
Floats widen_narrow<Element::bfloat16>(const std::byte* values) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

// sum + a b, rounded once.
Floats add_fused(Floats sum, Floats a, Floats b) { return _mm256_fmadd_ps(a, b, sum); }

Floats add_exact(Floats sum, Floats a, Floats b) { return add_fused(sum, a, b); }

// sum + a b, rounded twice.
Floats add_product(Floats sum, Floats a, Floats b) {
    return _mm256_add_ps(sum, _mm256_mul_ps(a, b));
}

// Of 16 floats, float j and j + 8 together.
Eight in_lanes(const Floats (&parts)[2]) {
    const __m256 sums = _mm256_add_ps(parts[0], parts[1]);
    return {_mm256_cvtps_pd(_mm256_castps256_ps128(sums)),
            _mm256_cvtps_pd(_mm256_extractf128_ps(sums, 1))};
}

}  // namespace
}  // namespace llmagentos

#include "chunk.hpp"

namespace llmagentos {
extern const InstructionSet avx2 = instruction_set("avx2");
}
