// Whole cache lines that are written past the caches, so that their old bytes are not read first.
// Local to each instruction set, as chunk.hpp is.
#pragma once

#include <cstddef>
#include <cstring>

#ifdef __SSE2__
#include <immintrin.h>
#endif

namespace llmagentos {
namespace {

constexpr std::size_t line_bytes = 64;

constexpr std::size_t floats_per_line = line_bytes / sizeof(float);

#ifdef __SSE2__
// `place` is the start of a cache line.
[[gnu::always_inline]] inline void stream_line(float* place, const float* values) {
#ifdef __AVX512F__
    _mm512_stream_ps(place, _mm512_loadu_ps(values));
#else
    for (std::size_t j = 0; j < floats_per_line; j += 4) {
        _mm_stream_ps(place + j, _mm_loadu_ps(values + j));
    }
#endif
}

// To be called before other threads may read what was streamed.
void finish_stream() { _mm_sfence(); }
#else
[[gnu::always_inline]] inline void stream_line(float* place, const float* values) {
    std::memcpy(place, values, line_bytes);
}

void finish_stream() {}
#endif

}  // namespace
}  // namespace llmagentos
