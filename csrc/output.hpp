// Results of a chunk on their way to memory. Local to each instruction set, as chunk.hpp is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "stream.hpp"

namespace llmagentos {
namespace {

// Values [start, start + count) of a vector: a block, or a part of one.
struct Span {
    std::size_t start, count;
};

// Vectors of fewer values than this are likely to be read again while a cache holds them.
constexpr std::size_t stream_size = std::size_t{1} << 19;

// One vector of results, taken part by part from the start of a chunk. Only whole lines are
// streamed: the values of a line that a part leaves unfinished wait for the next part.
class Output {
  public:
    Output(std::span<float> out, std::size_t start)
        : place_(out.data() + start), streams_(out.size() >= stream_size) {
        const auto address = reinterpret_cast<std::uintptr_t>(place_) / sizeof(float);
        others_ = waiting_ = address % floats_per_line;
        place_ -= waiting_;
    }

    // Room for the results of the next part, of at most block_size values.
    float* room() { return values_ + waiting_; }

    // Takes as many results as the room was filled with.
    void put(std::size_t count) {
        const std::size_t total = waiting_ + count;
        std::size_t j = 0;
        for (; j + floats_per_line <= total; j += floats_per_line) put_line(j);
        place_ += j;
        waiting_ = total - j;
        std::memcpy(values_, values_ + j, waiting_ * sizeof(float));
    }

    void finish() {
        std::memcpy(place_ + others_, values_ + others_, (waiting_ - others_) * sizeof(float));
        finish_stream();
    }

  private:
    void put_line(std::size_t j) {
        if (others_ > 0) {
            const std::size_t own = floats_per_line - others_;
            std::memcpy(place_ + j + others_, values_ + j + others_, own * sizeof(float));
            others_ = 0;
        } else if (streams_) {
            stream_line(place_ + j, values_ + j);
        } else {
            std::memcpy(place_ + j, values_ + j, line_bytes);
        }
    }

    alignas(line_bytes) float values_[block_size + floats_per_line];
    float* place_;         // the start of a line
    bool streams_;         // else the results stay in the caches
    std::size_t others_;   // values at the start of the first line that belong to another chunk
    std::size_t waiting_;  // values of the line at place_, the others' included
};

}  // namespace
}  // namespace llmagentos
