// Results that leave the caches: written past them, so that their old bytes are not read first.
// Local to each instruction set, as chunk.hpp is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace llmagentos {
namespace {

constexpr std::size_t line_bytes = 64;

// Vectors of fewer values than this are likely to be read again while a cache holds them.
constexpr std::size_t stream_size = std::size_t{1} << 19;

#ifdef __SSE2__
void stream(float* place, const float* values, std::size_t count) {
    std::size_t j = 0;
    for (; j < count && reinterpret_cast<std::uintptr_t>(place + j) % 16 != 0; ++j) {
        place[j] = values[j];
    }
    for (; j + 4 <= count; j += 4) _mm_stream_ps(place + j, _mm_loadu_ps(values + j));
    for (; j < count; ++j) place[j] = values[j];
}

// To be called before other threads may read what was streamed.
void finish_stream() { _mm_sfence(); }
#else
void stream(float* place, const float* values, std::size_t count) {
    std::memcpy(place, values, count * sizeof(float));
}

void finish_stream() {}
#endif

}  // namespace
}  // namespace llmagentos
