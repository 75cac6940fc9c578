// Values and rows in host memory with their copies in device memory.
#pragma once

#include <algorithm>
#include <utility>

#include "cuda.hpp"
#include "rows.hpp"

namespace llmagentos {

inline void check(cudaError_t status) { expect(status == cudaSuccess, cudaGetErrorString(status)); }

// Device memory with a copy of host values, `offset` bytes behind a place that is aligned to 256.
template <class Value>
class OnDevice {
  public:
    explicit OnDevice(const std::vector<Value>& values, std::size_t offset = 0)
        : count_(values.size()), offset_(offset) {
        check(cudaMalloc(&memory_, bytes() + offset + 1));
        check(cudaMemcpy(get(), values.data(), bytes(), cudaMemcpyHostToDevice));
    }
    OnDevice(OnDevice&& other) noexcept
        : count_(other.count_),
          offset_(other.offset_),
          memory_(std::exchange(other.memory_, nullptr)) {}
    ~OnDevice() { cudaFree(memory_); }

    Value* get() const {
        return reinterpret_cast<Value*>(static_cast<std::byte*>(memory_) + offset_);
    }
    std::vector<Value> read() const {
        std::vector<Value> values(count_);
        check(cudaMemcpy(values.data(), get(), bytes(), cudaMemcpyDeviceToHost));
        return values;
    }

  private:
    std::size_t bytes() const { return count_ * sizeof(Value); }

    std::size_t count_, offset_;
    void* memory_ = nullptr;
};

inline std::vector<std::byte> random_bytes(std::size_t count, std::mt19937& generator) {
    std::vector<std::byte> bytes(count);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(generator());
    return bytes;
}

// n rows of all types, int8 ones next to each other, in both memories. Every third lies off the 16
// bytes; of the floats, every second row has bits of all patterns, the others are finite.
struct Cohort {
    std::size_t size;
    std::vector<std::vector<std::byte>> memory, scales;
    std::vector<OnDevice<std::byte>> copies, scale_copies;
    std::vector<Row> rows, device_rows;
    std::vector<double> weights;
    std::vector<RowStats> expected;
    OnDevice<RowStats> stats;
    OnDevice<std::byte> workspace;

    Cohort(std::size_t size, std::size_t n, std::mt19937& generator)
        : size(size),
          expected(n),
          stats(expected),
          workspace(std::vector<std::byte>(cuda::workspace_bytes(size, n))) {
        for (std::size_t k = 0; k < n; ++k) add_row(k, generator);
    }

    void add_row(std::size_t k, std::mt19937& generator) {
        const auto element = static_cast<Element>(std::min<std::size_t>(k % 24, 3));
        const std::size_t width = bytes_of(element);
        memory.push_back(random_bytes(size * width, generator));
        if (k % 2 == 0) {
            for (std::size_t j = width - 1; j < size * width; j += width) {
                memory.back()[j] &= std::byte{0xbb};
            }
        }
        copies.emplace_back(memory.back(), k % 3 == 2 ? width : 0);
        scales.push_back(random_bytes((size + scale_group - 1) / scale_group * 4, generator));
        scale_copies.emplace_back(scales.back(), 4);
        rows.push_back({memory.back().data(), element, scales.back().data()});
        device_rows.push_back({copies.back().get(), element, scale_copies.back().get()});
        weights.push_back(1.0 / static_cast<double>(k + 1));
    }

    cuda::Rows on_device() const {
        check(cudaMemset(stats.get(), 0xff, rows.size() * sizeof(RowStats)));
        return {device_rows, weights, stats.get(), workspace.get()};
    }

    void expect_stats() const {
        const auto found = stats.read();
        for (std::size_t k = 0; k < rows.size(); ++k) {
            expect(found[k].nonfinite == expected[k].nonfinite, "cuda counts bad values");
            expect(found[k].squared_norm == expected[k].squared_norm || expected[k].nonfinite > 0,
                   "cuda measures as the CPU does");
        }
    }
};

}  // namespace llmagentos
