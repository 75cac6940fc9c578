// Chunks of a vector, worked on by several threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <system_error>
#include <thread>
#include <vector>

#include "instructions.hpp"

namespace llmagentos {

// Calls work(chunk) once for each chunk of `size` values. Chunks are taken from a common counter,
// so a slow thread holds nobody up; work must not throw and must write to its own chunk only.
template <class Work>
void for_each_chunk(std::size_t size, unsigned threads, const Work& work) {
    const std::size_t chunks = chunks_of(size);
    std::atomic<std::size_t> next = 0;
    const auto take = [&]() noexcept {
        for (std::size_t index = next++; index < chunks; index = next++) {
            const std::size_t start = index * chunk_size;
            work(Chunk{index, start, std::min(start + chunk_size, size)});
        }
    };
    std::vector<std::thread> others;
    others.reserve(threads);
    try {
        while (others.size() + 1 < std::min<std::size_t>(threads, chunks))
            others.emplace_back(take);
    } catch (const std::system_error&) {
        // The machine gives no more threads: those that run share the chunks.
    }
    take();
    for (std::thread& other : others) other.join();
}

}  // namespace llmagentos
