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
        const std::size_t lines = total / floats_per_line * floats_per_line;
        std::size_t j = 0;
        if (others_ > 0 && lines > 0) {
            const std::size_t own = floats_per_line - others_;
            std::memcpy(place_ + others_, values_ + others_, own * sizeof(float));
            others_ = 0;
            j = floats_per_line;
        }
        put_lines(j, lines);
        place_ += lines;
        waiting_ = total - lines;
        std::memcpy(values_, values_ + lines, waiting_ * sizeof(float));
    }

    void finish() {
        std::memcpy(place_ + others_, values_ + others_, (waiting_ - others_) * sizeof(float));
        finish_stream();
    }

  private:
    // Whole lines of this chunk, from value j on.
    void put_lines(std::size_t j, std::size_t stop) {
        if (!streams_) {
            std::memcpy(place_ + j, values_ + j, (stop - j) * sizeof(float));
        } else {
            for (; j < stop; j += floats_per_line) stream_line(place_ + j, values_ + j);
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
