// The kernels for x86-64-v4: one register holds eight float64.
#include <immintrin.h>

#include <cstring>

#include "arithmetic.hpp"

namespace llmagentos {
namespace {

constexpr std::size_t sums_at_once = 8;
constexpr std::size_t pair_limit = 4;
constexpr std::size_t run_limit = 16;

struct Eight {
    __m512d values;
};

Eight fill(double value) { return {_mm512_set1_pd(value)}; }
Eight load(const double* values) { return {_mm512_loadu_pd(values)}; }
void store(double* place, Eight eight) { _mm512_storeu_pd(place, eight.values); }

// With a full mask: GCC 12 warns about the undefined register in the form without one.
__m512d from_floats(__m256 values) { return _mm512_maskz_cvtps_pd(0xff, values); }

template <Element>
Eight widen(const std::byte* values);

template <>
Eight widen<Element::float32>(const std::byte* values) {
    return {from_floats(_mm256_loadu_ps(reinterpret_cast<const float*>(values)))};
}

template <>
Eight widen<Element::float16>(const std::byte* values) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values));
    return {from_floats(_mm256_cvtph_ps(bits))};
}

// One shuffle moves the 16 bits of each value into the upper half of 32.
template <>
Eight widen<Element::bfloat16>(const std::byte* values) {
    const __m256i places =
        _mm256_setr_epi8(-1, -1, 0, 1, -1, -1, 2, 3, -1, -1, 4, 5, -1, -1, 6, 7,  //
                         -1, -1, 8, 9, -1, -1, 10, 11, -1, -1, 12, 13, -1, -1, 14, 15);
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values));
    const __m256i upper = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bits), places);
    return {from_floats(_mm256_castsi256_ps(upper))};
}

// sum + a b, where a b is exact.
Eight add_exact(Eight sum, Eight a, Eight b) {
    return {_mm512_fmadd_pd(a.values, b.values, sum.values)};
}

Eight add_squared_difference(Eight sum, Eight a, Eight b) {
    const __m512d gap = _mm512_sub_pd(a.values, b.values);
    return {_mm512_add_pd(sum.values, _mm512_mul_pd(gap, gap))};
}

using Floats = __m512;

void store_floats(float* place, Eight eight) {
    _mm256_storeu_ps(place, _mm512_maskz_cvtpd_ps(0xff, eight.values));
}
Floats fill_floats(float value) { return _mm512_set1_ps(value); }
Floats load_floats(const float* values) { return _mm512_loadu_ps(values); }
void store_floats(float* place, Floats floats) { _mm512_storeu_ps(place, floats); }
Floats smaller(Floats a, Floats b) { return _mm512_maskz_min_ps(0xffff, a, b); }
Floats larger(Floats a, Floats b) { return _mm512_maskz_max_ps(0xffff, a, b); }

template <Element>
Floats widen_narrow(const std::byte* values);

template <>
Floats widen_narrow<Element::int8>(const std::byte* values) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values));
    return _mm512_maskz_cvtepi32_ps(0xffff, _mm512_maskz_cvtepi8_epi32(0xffff, bytes));
}

template <>
Floats widen_narrow<Element::float16>(const std::byte* values) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values));
    return _mm512_maskz_cvtph_ps(0xffff, bits);
}

template <>
Floats widen_narrow<Element::bfloat16>(const std::byte* values) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values));
    const __m512i words = _mm512_maskz_cvtepu16_epi32(0xffff, bits);
    return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, words, 16));
}

// sum + a b, rounded once.
Floats add_fused(Floats sum, Floats a, Floats b) { return _mm512_fmadd_ps(a, b, sum); }

Floats add_exact(Floats sum, Floats a, Floats b) { return add_fused(sum, a, b); }

// sum + a b, rounded twice.
Floats add_product(Floats sum, Floats a, Floats b) {
    return _mm512_add_ps(sum, _mm512_mul_ps(a, b));
}

// What min and max put in order whatever the order of their arguments: NaN counts as Inf, -0 as 0.
Floats sortable(Floats floats) {
    return _mm512_add_ps(smaller(floats, _mm512_set1_ps(infinity)), _mm512_setzero_ps());
}

// Of 16 floats, float j and j + 8 together. The lower half is copied: GCC 12 warns about the
// undefined register in the cast.
Eight in_lanes(const Floats (&parts)[1]) {
    const __m512 turned = _mm512_maskz_shuffle_f32x4(0xffff, parts[0], parts[0], 0x4e);
    const __m512 sums = _mm512_add_ps(parts[0], turned);
    __m256 lower;
    std::memcpy(&lower, &sums, sizeof lower);
    return {from_floats(lower)};
}

}  // namespace
}  // namespace llmagentos

#include "chunk.hpp"

namespace llmagentos {
extern const InstructionSet avx512 = instruction_set("avx512");
}
