// Results of a chunk on their way to memory. Local to each instruction set, as chunk.hpp is.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "stream.hpp"

namespace llmagentos {
namespace {

// Values [start, start + count) of a vector: a block, or a part of one.
struct Range {
    std::size_t start, count;
};

// Vectors of fewer values than this are likely to be read again while a cache holds them.
constexpr std::size_t stream_size = std::size_t{1} << 19;

// One vector of results, taken part by part from the start of a chunk. Only whole lines are
// streamed, and those of a part when the next one comes: by then its values can be read line by
// line.
class Output {
  public:
    Output(std::span<float> out, std::size_t start)
        : place_(out.data() + start), streams_(out.size() >= stream_size) {
        const auto address = reinterpret_cast<std::uintptr_t>(place_) / sizeof(float);
        sent_ = filled_ = address % floats_per_line;
        place_ -= filled_;
    }

    // Room for the results of the next part, of at most block_size values.
    float* room() { return values_ + filled_; }

    // Takes as many results as the room was filled with.
    void put(std::size_t count) {
        const std::size_t before = filled_;
        filled_ += count;
        if (filled_ < block_size) return send(whole_lines(before));
        send(whole_lines(filled_));
        place_ += sent_;
        filled_ -= sent_;
        std::memcpy(values_, values_ + sent_, filled_ * sizeof(float));
        sent_ = 0;
    }

    void finish() {
        send(filled_);
        finish_stream();
    }

  private:
    static std::size_t whole_lines(std::size_t count) {
        return count / floats_per_line * floats_per_line;
    }

    // Up to value `stop`. The rest of the first and of the last line belongs to other chunks.
    void send(std::size_t stop) {
        if (stop <= sent_) return;
        if (const std::size_t begun = sent_ % floats_per_line; begun > 0) {
            copy(std::min(stop, sent_ + floats_per_line - begun));
        }
        if (!streams_) return copy(stop);
        for (; sent_ + floats_per_line <= stop; sent_ += floats_per_line) {
            stream_line(place_ + sent_, values_ + sent_);
        }
        if (sent_ < stop) copy(stop);
    }

    void copy(std::size_t stop) {
        std::memcpy(place_ + sent_, values_ + sent_, (stop - sent_) * sizeof(float));
        sent_ = stop;
    }

    alignas(line_bytes) float values_[2 * block_size + floats_per_line];
    float* place_;        // the start of a line
    bool streams_;        // else the results stay in the caches
    std::size_t sent_;    // values of the room that are in place, or another chunk's
    std::size_t filled_;  // values of the room, the sent ones included
};

}  // namespace
}  // namespace llmagentos
