// As much of CUDA's runtime as csrc/*.cu uses, on the processor: a device of one thread block at a
// time, whose threads are threads of this program and meet at a barrier. So every index, every
// barrier and every access to shared memory is executed, under the sanitizers too. Shared memory
// keeps what the thread block before it left. Thread blocks that run at once, warps, and the order
// in which memory becomes visible to other thread blocks are the device's alone.
#pragma once

#include <algorithm>
#include <array>
#include <barrier>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#define __device__
#define __global__
#define __grid_constant__
#define __launch_bounds__(...)
#define __shared__ static

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess, cudaErrorMemoryAllocation };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };

struct dim3 {
    unsigned x = 1;
};
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    std::size_t dynamicSmemBytes = 0;
    cudaStream_t stream = nullptr;
};

inline dim3 gridDim, blockDim;
inline thread_local dim3 threadIdx, blockIdx;
inline std::barrier<>* thread_block;

inline void __syncthreads() { thread_block->arrive_and_wait(); }
inline void __threadfence() {}

template <class Value>
Value __ldcg(const Value* place) {
    return *place;
}
inline unsigned atomicInc(unsigned* place, unsigned last) {
    return std::exchange(*place, *place >= last ? 0 : *place + 1);
}
template <class Value>
Value atomicExch(Value* place, Value value) {
    return __atomic_exchange_n(place, value, __ATOMIC_RELAXED);
}
inline void atomicAdd(unsigned long long* place, unsigned long long value) {
    __atomic_fetch_add(place, value, __ATOMIC_RELAXED);
}

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               const Arguments&... arguments) {
    gridDim = config->gridDim;
    blockDim = config->blockDim;
    std::barrier<> barrier(blockDim.x);
    thread_block = &barrier;
    std::vector<std::jthread> threads;
    for (unsigned thread = 0; thread < blockDim.x; ++thread) {
        threads.emplace_back([&, thread] {
            threadIdx.x = thread;
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) {
                kernel(arguments...);
                __syncthreads();
            }
        });
    }
    return cudaSuccess;
}

inline const char* cudaGetErrorString(cudaError_t) { return "out of memory"; }
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaMalloc(void** memory, std::size_t size) {
    *memory = std::aligned_alloc(256, (size + 255) / 256 * 256);
    return *memory ? cudaSuccess : cudaErrorMemoryAllocation;
}
inline cudaError_t cudaFree(void* memory) { return std::free(memory), cudaSuccess; }
inline cudaError_t cudaMemcpy(void* to, const void* from, std::size_t size, cudaMemcpyKind) {
    if (size > 0) std::memcpy(to, from, size);
    return cudaSuccess;
}
inline cudaError_t cudaMemset(void* memory, int value, std::size_t size) {
    if (size > 0) std::memset(memory, value, size);
    return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t size, cudaStream_t) {
    return cudaMemset(memory, value, size);
}
