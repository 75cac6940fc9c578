// Launches on the caller's stream, and the workspace that they share. Local to each source.
#pragma once

#include <stdexcept>
#include <string>

#include "cuda_norms.cuh"

namespace llmagentos::cuda {
namespace {

void check(cudaError_t status) {
    if (status == cudaSuccess) return;
    throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(status));
}

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), std::size_t blocks, unsigned threads,
            cudaStream_t stream, const Arguments&... arguments) {
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(blocks));
    config.blockDim = dim3(threads);
    config.stream = stream;
    check(cudaLaunchKernelEx(&config, kernel, arguments...));
}

struct Counts {
    std::size_t size, rows;

    std::size_t finished() const { return (1 + chunks_of(size) + 1) / 2 * 2; }
    std::size_t blocks() const { return chunks_of(size) * (chunk_size / block_size) * rows; }
    std::size_t chunks() const { return chunks_of(size) * rows; }
};

Parts parts_at(std::byte* workspace, Counts counts, RowStats* stats) {
    Parts parts;
    parts.finished = reinterpret_cast<unsigned*>(workspace);
    parts.nonfinite = reinterpret_cast<unsigned long long*>(parts.finished + counts.finished());
    parts.blocks = reinterpret_cast<double*>(parts.nonfinite + counts.rows);
    parts.chunks = parts.blocks + counts.blocks();
    parts.rows = stats;
    return parts;
}

// Threads of a thread block where each works on four values: on a block of block_size together.
constexpr unsigned four_threads = block_size / 4;

template <class Work>
__global__ void each_four(std::size_t size, Work work) {
    const std::size_t j = 4 * (std::size_t{blockIdx.x} * blockDim.x + threadIdx.x);
    if (j < size) work(j, size);
}

template <class Work>
void for_each_four(std::size_t size, cudaStream_t stream, const Work& work) {
    if (size > 0) launch(each_four<Work>, blocks_of(size), four_threads, stream, size, work);
}

}  // namespace
}  // namespace llmagentos::cuda
