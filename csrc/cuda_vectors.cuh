// Vectors in device memory, 16 bytes at a time where they are aligned to that. Values at and behind
// the end read as zero and are not written.
#pragma once

#include "cuda.hpp"

namespace llmagentos::cuda {
namespace {

struct alignas(16) Four {
    float values[4];
};

template <unsigned n>
struct Floats {
    Four fours[n / 4];

    __device__ float& operator[](unsigned i) { return fours[i / 4].values[i % 4]; }
    __device__ float operator[](unsigned i) const { return fours[i / 4].values[i % 4]; }
};

__device__ bool aligned(const void* memory) {
    return reinterpret_cast<std::uintptr_t>(memory) % sizeof(Four) == 0;
}

// Values [j, j + n) of a vector; j is a multiple of 4.
template <unsigned n>
__device__ Floats<n> load(const float* vector, std::size_t j, std::size_t size) {
    Floats<n> floats{};
    if (aligned(vector) && j + n <= size) {
#pragma unroll
        for (unsigned i = 0; i < n / 4; ++i) {
            floats.fours[i] = reinterpret_cast<const Four*>(vector + j)[i];
        }
    } else {
#pragma unroll
        for (unsigned i = 0; i < n; ++i) {
            if (j + i < size) floats[i] = vector[j + i];
        }
    }
    return floats;
}

template <unsigned n>
__device__ void store(float* vector, std::size_t j, std::size_t size, const Floats<n>& floats) {
    if (aligned(vector) && j + n <= size) {
#pragma unroll
        for (unsigned i = 0; i < n / 4; ++i) {
            reinterpret_cast<Four*>(vector + j)[i] = floats.fours[i];
        }
    } else {
#pragma unroll
        for (unsigned i = 0; i < n; ++i) {
            if (j + i < size) vector[j + i] = floats[i];
        }
    }
}

}  // namespace
}  // namespace llmagentos::cuda
