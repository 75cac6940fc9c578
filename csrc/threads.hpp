// Chunks of a vector, worked on by several threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

#include "instructions.hpp"

namespace llmagentos {

// How many of the threads find a chunk to work on; at least one.
inline std::size_t crew_of(std::size_t size, unsigned threads) {
    return std::clamp<std::size_t>(threads, 1, std::max<std::size_t>(chunks_of(size), 1));
}

// Runs work(0) on this thread and work(1), ..., work(count - 1) on others, or on fewer of them;
// work must not throw.
template <class Work>
void run_together(std::size_t count, const Work& work) {
    std::vector<std::thread> others;
    others.reserve(count);
    try {
        while (others.size() + 1 < count) others.emplace_back(work, others.size() + 1);
    } catch (const std::exception&) {
        // The machine gives no more threads, or no memory for one: those that run share the work.
    }
    work(0);
    for (std::thread& other : others) other.join();
}

// Calls work(chunk, k) once for each chunk of `size` values, on thread k < count. Chunks are taken
// from a common counter, so a slow thread holds nobody up; work must not throw, so it does not
// allocate either, and must write to its own chunk only.
template <class Work>
void share_chunks(std::size_t size, std::size_t count, const Work& work) {
    const std::size_t chunks = chunks_of(size);
    std::atomic<std::size_t> next = 0;
    run_together(count, [&](std::size_t k) noexcept {
        for (std::size_t index = next++; index < chunks; index = next++) {
            const std::size_t start = index * chunk_size;
            work(Chunk{index, start, std::min(start + chunk_size, size)}, k);
        }
    });
}

template <class Work>
void for_each_chunk(std::size_t size, unsigned threads, const Work& work) {
    share_chunks(size, crew_of(size, threads), [&](Chunk chunk, std::size_t) { work(chunk); });
}

// The same as work(chunk, part), with a thread for every part.
template <class Part, class Work>
void for_each_chunk(std::size_t size, std::vector<Part>& parts, const Work& work) {
    share_chunks(size, parts.size(), [&](Chunk chunk, std::size_t k) { work(chunk, parts[k]); });
}

// The same, where work(chunk, part) fills the part, and merge(part) is called in the order of the
// chunks, by one thread at a time.
template <class Part, class Work, class Merge>
void reduce_chunks(std::size_t size, std::vector<Part>& parts, const Work& work,
                   const Merge& merge) {
    std::atomic<std::size_t> merged = 0;
    for_each_chunk(size, parts, [&](Chunk chunk, Part& part) {
        work(chunk, part);
        for (std::size_t done = merged; done != chunk.index; done = merged) merged.wait(done);
        merge(part);
        merged = chunk.index + 1;
        merged.notify_all();
    });
}

}  // namespace llmagentos
