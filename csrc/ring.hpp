// Sums modulo 2^32 over one chunk. Part of chunk.hpp, and local to each instruction set as that is.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "columns.hpp"

namespace llmagentos {
namespace {

constexpr std::size_t ring_limit = 8;

std::uint32_t uint32_at(const std::byte* values, std::size_t j) {
    std::uint32_t value;
    std::memcpy(&value, values + j * sizeof value, sizeof value);
    return value;
}

// sums[j] += q_0[j] + ... + q_{n-1}[j] for a whole block.
template <std::size_t n>
void add_ring_rows(std::uint32_t* __restrict sums, const std::byte* const* values, Lead lead) {
    constexpr std::size_t count = line_bytes / sizeof *sums;
    const std::byte* places[n];
    for (std::size_t k = 0; k < n; ++k) places[k] = values[k];
    for (std::size_t line = 0; line < block_size; line += count) {
#pragma GCC unroll 8
        for (std::size_t k = 0; k < n; ++k) ask_ahead(places[k] + line * sizeof *sums, lead);
        for (std::size_t j = line; j < line + count; ++j) {
            std::uint32_t total = sums[j];
#pragma GCC unroll 8
            for (std::size_t k = 0; k < n; ++k) total += uint32_at(places[k], j);
            sums[j] = total;
        }
    }
}

template <std::size_t... n>
void add_ring_rows(std::index_sequence<n...>, std::uint32_t* sums, const std::byte* const* values,
                   std::size_t count, Lead lead) {
    static constexpr void (*by_count[])(std::uint32_t*, const std::byte* const*,
                                        Lead) = {add_ring_rows<n + 1>...};
    by_count[count - 1](sums, values, lead);
}

void add_ring_group(std::uint32_t* sums, std::span<const std::byte* const> rows, Range block,
                    Lead lead) {
    std::byte padded[ring_limit][block_size * sizeof *sums];
    const std::byte* values[ring_limit];
    for (std::size_t k = 0; k < rows.size(); ++k) {
        values[k] = rows[k] + block.start * sizeof *sums;
        if (block.count == block_size) continue;
        std::memcpy(padded[k], values[k], block.count * sizeof *sums);
        values[k] = padded[k];
    }
    add_ring_rows(std::make_index_sequence<ring_limit>(), sums, values, rows.size(), lead);
}

// Output moves bits and does not look at them.
void ring_sum(std::span<std::uint32_t> out, std::span<const std::byte* const> rows, Chunk chunk) {
    const Lead lead{1024, is_amd()};
    Output output({reinterpret_cast<float*>(out.data()), out.size()}, chunk.start);
    for_each_range(chunk.start, chunk.stop, block_size, [&](Range block) {
        alignas(line_bytes) std::uint32_t sums[block_size] = {};
        for_each_range(0, rows.size(), ring_limit, [&](Range group) {
            add_ring_group(sums, rows.subspan(group.start, group.count), block, lead);
        });
        std::memcpy(output.room(), sums, block.count * sizeof *sums);
        output.put(block.count);
    });
    output.finish();
}

}  // namespace
}  // namespace llmagentos
