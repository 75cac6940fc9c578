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

// Runs work() on this thread and at most count - 1 others; work must not throw.
template <class Work>
void run_together(std::size_t count, const Work& work) {
    std::vector<std::thread> others;
    others.reserve(count);
    try {
        while (others.size() + 1 < count) others.emplace_back(work);
    } catch (const std::system_error&) {
        // The machine gives no more threads: those that run share the work.
    }
    work();
    for (std::thread& other : others) other.join();
}

// Calls work(chunk) once for each chunk of `size` values. Chunks are taken from a common counter,
// so a slow thread holds nobody up; work must not throw and must write to its own chunk only.
template <class Work>
void for_each_chunk(std::size_t size, unsigned threads, const Work& work) {
    const std::size_t chunks = chunks_of(size);
    std::atomic<std::size_t> next = 0;
    run_together(std::min<std::size_t>(threads, chunks), [&]() noexcept {
        for (std::size_t index = next++; index < chunks; index = next++) {
            const std::size_t start = index * chunk_size;
            work(Chunk{index, start, std::min(start + chunk_size, size)});
        }
    });
}

// The same with a part for every thread, which make() gives: work(chunk, part) fills it, and
// merge(part) is called in the order of the chunks, by one thread at a time.
template <class Make, class Work, class Merge>
void reduce_chunks(std::size_t size, unsigned threads, const Make& make, const Work& work,
                   const Merge& merge) {
    std::atomic<std::size_t> merged = 0;
    std::atomic<std::size_t> next = 0;
    const std::size_t chunks = chunks_of(size);
    run_together(std::min<std::size_t>(threads, chunks), [&]() noexcept {
        auto part = make();
        for (std::size_t index = next++; index < chunks; index = next++) {
            const std::size_t start = index * chunk_size;
            work(Chunk{index, start, std::min(start + chunk_size, size)}, part);
            for (std::size_t done = merged; done != index; done = merged) merged.wait(done);
            merge(part);
            merged = index + 1;
            merged.notify_all();
        }
    });
}

}  // namespace llmagentos
