// What is compiled once per instruction set: the work on one chunk. All sets give the same bits.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "kernels.hpp"

namespace llmagentos {

// Values [start, stop) of a vector, at most chunk_size of them.
struct Chunk {
    std::size_t index, start, stop;
};

// Rows [first, first + count): of one type, at most group_limit of them.
struct Group {
    std::size_t first, count;
};

// All rows of a pass with their weights, in groups that are read together.
struct Cohort {
    std::span<const Row> rows;
    std::span<const double> weights;
    std::span<const Group> groups;
};

// A server's rule on before.delta, and on the average of the rows in its place.
template <class Rule>
struct RuleSteps {
    void (*step)(After, Before, Rule, Chunk);
    void (*average_and_step)(After, Before, Rule, const Cohort&, Chunk, RowStats* stats);
};

// Functions named as in kernels.hpp, for one chunk. `stats` has a place for every row, to which
// they add.
struct InstructionSet {
    std::string_view name;
    std::size_t group_limit;

    void (*weighted_sum)(std::span<float> out, const Cohort&, Chunk, RowStats* stats);
    void (*average_step)(std::span<float> out, std::span<const float> anchor, double lr,
                         const Cohort&, Chunk, RowStats* stats);
    void (*inspect)(Row, Chunk, RowStats* stats);
    void (*accumulate)(std::span<double> sums, Row, double weight, Chunk, RowStats* stats);
    void (*finish)(std::span<float> out, std::span<const double> sums, Chunk);
    void (*finish_step)(std::span<float> out, std::span<const float> anchor, double lr,
                        std::span<const double> sums, Chunk);
    RuleSteps<Momentum> momentum;
    RuleSteps<Adam> adam;
    RuleSteps<Yogi> yogi;
    RuleSteps<Adagrad> adagrad;
    void (*proximal)(std::span<float> gradient, std::span<const float> weights,
                     std::span<const float> anchor, double mu, Chunk);
};

}  // namespace llmagentos
