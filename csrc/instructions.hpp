// What is compiled once per instruction set: the work on one chunk. All sets give the same bits.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

#include "groups.hpp"
#include "network.hpp"
#include "robust.hpp"

namespace llmagentos {

// Values [start, stop) of a vector, at most chunk_size of them.
struct Chunk {
    std::size_t index, start, stop;
};

// Values that are added at once: what the registers hold sums of at best, and those of a scale of
// int8.
constexpr std::size_t tile_size = scale_group;
static_assert(block_size % tile_size == 0);

// How long before they are read the bytes of a row are asked for, and into which cache.
struct Lead {
    std::size_t bytes;
    bool into_second_cache;
};

// Values whose sums are finished before the next are begun, a tile or a block; the most rows that
// are read side by side; and their lead. None of these changes a bit.
struct Pace {
    std::size_t part, rows;
    Lead lead;
};

// All rows of a pass with their weights, in groups that are read together.
struct Cohort {
    std::span<const Row> rows;
    std::span<const double> weights;
    std::span<const Group> groups;
    Pace pace;
};

struct alignas(64) Lanes : std::array<double, lane_count> {};

// What the values and the sums of squares of a block of an int8 row are multiplied by, scale by
// scale: w s and s^2.
constexpr std::size_t block_scales = block_size / scale_group;
struct Factors {
    float of_values[block_scales];
    double of_squares[block_scales];
};

// What a pass keeps of its rows, with a place for every row: `stats` of the chunk, to which it
// adds, and room for the squares and the factors of a block.
struct Scratch {
    RowStats* stats;
    Lanes* squares;
    Factors* factors;
};

// A server's rule on before.delta, and on the average of the rows in its place.
template <class Rule>
struct RuleSteps {
    void (*step)(After, Before, Rule, Chunk);
    void (*average_and_step)(After, Before, Rule, const Cohort&, Chunk, Scratch);
};

// The network that sorts as far as a trimmed mean needs.
struct Order {
    std::span<const Comparator> network;
    std::size_t trim;
};

// A block of a row. Aligned, since what crosses the end of a cache line is read twice.
struct alignas(64) WideRow {
    double values[block_size];
};

using SumPairs = void (*)(double* sums, WideRow* room, std::span<const Row>, Chunk);

// Whether AMD built this processor.
bool is_amd();

// Functions named as in kernels.hpp, for one chunk.
struct InstructionSet {
    std::string_view name;
    std::size_t run_limit;

    void (*weighted_sum)(std::span<float> out, const Cohort&, Chunk, Scratch);
    void (*average_step)(std::span<float> out, std::span<const float> anchor, double lr,
                         const Cohort&, Chunk, Scratch);
    void (*inspect)(Row, Chunk, Scratch);
    RuleSteps<Momentum> momentum;
    RuleSteps<Adam> adam;
    RuleSteps<Yogi> yogi;
    RuleSteps<Adagrad> adagrad;
    void (*proximal)(std::span<float> gradient, std::span<const float> weights,
                     std::span<const float> anchor, double mu, Chunk);
    void (*train_step)(Training, std::span<const float> gradient, double scale, AdamW, Chunk);

    // As in robust.hpp. Pairs are added to sums (n, n), those of k >= i; `room` has n rows.
    void (*trimmed_mean)(std::span<float> out, const Order&, const Cohort&, Chunk, Scratch);
    SumPairs squared_distances, inner_products;
    void (*ring_sum)(std::span<std::uint32_t> out, std::span<const std::byte* const> rows, Chunk);
};

}  // namespace llmagentos
