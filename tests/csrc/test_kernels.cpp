// Every kernel on awkward lengths, types, addresses and threads. Meant for the sanitizers; the
// comparison with the plain reference, bit by bit, is tests/test_kernels.py.
#include <array>

#include "instructions.hpp"
#include "rows.hpp"

using namespace llmagentos;

namespace {

constexpr std::array<std::size_t, 9> sizes = {0, 1, 2, 7, 1023, 1024, 1025, 65537, 140001};

void test_widening_is_exact() {
    static_assert(from_bfloat16(0x3f80) == 1.0f && from_bfloat16(0xc000) == -2.0f);
    static_assert(from_float16(0x3c00) == 1.0f && from_float16(0x0001) == 0x1p-24f);
    static_assert(from_float16(0x7bff) == 65504.0f && !is_finite(from_float16(0xfc00)));
    static_assert(from_float16(0x7e00) != from_float16(0x7e00));
    static_assert(exact_weight(0x1.00000018p0) == 0x1.0000002p0 && exact_weight(0x1p-801) == 0.0);
    static_assert(narrow_factor(0x1p-10, 0x1.8p10f) == 1.5f &&
                  add_narrow(1.0f, 0.5f, -128) == -63.0f);
    static_assert(fold_lanes({1, 2, 3, 4, 5, 6, 7, 8}) == 36.0);
}

float plain_narrow(const Group& group, const std::vector<Row>& rows,
                   const std::vector<double>& weights, std::size_t j) {
    float sum = 0.0f;
    for (std::size_t k = group.first; k < group.first + group.count; ++k) {
        const bool bytes = rows[k].element == Element::int8;
        const float scale = bytes ? scale_of(rows[k], j) : 1.0f;
        const float q = bytes ? static_cast<float>(byte_of(rows[k], j)) : value_of(rows[k], j);
        sum = add_narrow(sum, narrow_factor(exact_weight(weights[k]), scale), q);
    }
    return sum;
}

std::vector<float> plain_step(const std::vector<float>& anchor, double lr,
                              const std::vector<Row>& rows, const std::vector<double>& weights) {
    std::vector<double> sums(anchor.size());
    for (const Group& group : groups_of(rows, 1)) {
        const Row row = rows[group.first];
        const bool narrow = is_narrow(row.element);
        for (std::size_t j = 0; j < sums.size(); ++j) {
            sums[j] += narrow ? double{plain_narrow(group, rows, weights, j)}
                              : exact_weight(weights[group.first]) * value_of(row, j);
        }
    }
    std::vector<float> out(anchor.size());
    for (std::size_t j = 0; j < out.size(); ++j) out[j] = server_step(anchor[j], sums[j], lr);
    return out;
}

std::int64_t plain_nonfinite(Row row, std::size_t size) {
    std::int64_t count = 0;
    for (std::size_t j = 0; j < size; ++j) count += !is_finite(value_of(row, j));
    return count;
}

void test_one_pass(const InstructionSet& instructions, std::size_t size, std::size_t n,
                   std::mt19937& generator) {
    std::vector<RandomRow> memory;
    std::vector<Row> rows;
    std::vector<double> weights;
    for (std::size_t k = 0; k < n; ++k) {
        memory.emplace_back(size, static_cast<Element>(generator() % 4), generator() % 8,
                            generator);
        weights.push_back(1.0 / static_cast<double>(k + 1));
    }
    for (const RandomRow& row : memory) rows.push_back(row.row());
    const auto anchor = random_floats(size, generator);
    const auto expected = plain_step(anchor, 0.5, rows, weights);
    const std::vector<float> still(size);
    for (const unsigned threads : {1u, 2u, 4u}) {
        const Workers workers{threads, instructions};
        std::vector<float> out(size);
        std::vector<RowStats> stats(n);
        average_step(out, anchor, 0.5, rows, weights, stats, workers);
        expect(same_bits(out, expected), "average_step is the plain loop");
        for (std::size_t k = 0; k < n; ++k) {
            const RowStats alone = inspect(rows[k], size, workers);
            expect(alone.nonfinite == plain_nonfinite(rows[k], size), "bad values are counted");
            expect(stats[k].nonfinite == alone.nonfinite, "both passes count alike");
            expect(std::bit_cast<std::uint64_t>(stats[k].squared_norm) ==
                           std::bit_cast<std::uint64_t>(alone.squared_norm) ||
                       alone.nonfinite > 0,
                   "both passes measure alike");
        }
        weighted_sum(out, rows, weights, stats, workers);
        expect(same_bits(out, plain_step(still, 1.0, rows, weights)), "and so is weighted_sum");
    }
}

// The processor decides which pace is taken.
void test_every_pace_gives_the_same_bits(const InstructionSet& instructions, std::size_t n,
                                         std::mt19937& generator) {
    constexpr std::size_t size = 5 * block_size + 77;
    std::vector<RandomRow> memory;
    std::vector<Row> rows;
    for (std::size_t k = 0; k < n; ++k) {
        memory.emplace_back(size, static_cast<Element>(generator() % 4), k % 8, generator);
    }
    for (const RandomRow& row : memory) rows.push_back(row.row());
    const std::vector<double> weights(n, exact_weight(1.0 / static_cast<double>(n)));
    const auto expected = plain_step(std::vector<float>(size), 1.0, rows, weights);
    for (const Pace pace : {Pace{tile_size, n, {512, false}}, Pace{block_size, 8, {768, false}},
                            Pace{block_size, 8, {2048, true}}}) {
        const std::vector<Group> groups = groups_of(rows, pace.rows);
        std::vector<RowStats> stats(n);
        std::vector<Lanes> squares(n);
        std::vector<Factors> factors(n);
        std::vector<float> out(size);
        instructions.weighted_sum(out, {rows, weights, groups, pace}, {0, 0, size},
                                  {stats.data(), squares.data(), factors.data()});
        expect(same_bits(out, expected), "every pace is the plain loop");
    }
}

template <class Step>
std::array<std::vector<float>, 3> stepped(std::size_t size, const Step& step) {
    std::array<std::vector<float>, 3> after{std::vector<float>(size), std::vector<float>(size),
                                            std::vector<float>(size)};
    step(After{after[0], after[1], after[2]});
    return after;
}

template <class Rule>
void test_adaptive_step(const InstructionSet& instructions, std::size_t size,
                        std::mt19937& generator) {
    const auto w = random_floats(size, generator), m = random_floats(size, generator),
               v = random_floats(size, generator), delta = random_floats(size, generator);
    const Rule rule{{0.1, 0.9, 0.99, 1e-3}};
    const auto run = [&](unsigned threads) {
        return stepped(size, [&](After after) {
            take_step(after, Before{w, m, v, delta}, rule, Workers{threads, instructions});
        });
    };
    const auto one = run(1), four = run(4);
    for (std::size_t i = 0; i < 3; ++i) expect(same_bits(one[i], four[i]), "1 thread = 4");
    for (std::size_t j = 0; j < size; ++j) {
        const float first = rule.first_moment(m[j], delta[j]);
        const float second = rule.second_moment(v[j], delta[j]);
        expect(one[1][j] == first && one[2][j] == second, "moments follow the rule");
    }
}

void test_momentum_and_proximal(const InstructionSet& instructions, std::size_t size,
                                std::mt19937& generator) {
    const Workers workers{2, instructions};
    const auto w = random_floats(size, generator), m = random_floats(size, generator),
               delta = random_floats(size, generator);
    const auto after = stepped(size, [&](After vectors) {
        take_step(vectors, Before{w, m, {}, delta}, Momentum{0.5, 0.9}, workers);
    });
    auto gradient = delta;
    proximal(gradient, w, m, 0.25, workers);
    for (std::size_t j = 0; j < size; ++j) {
        const float first = heavy_ball(m[j], delta[j], 0.9);
        expect(after[0][j] == server_step(w[j], first, 0.5), "momentum moves the weights");
        expect(gradient[j] == proximal_gradient(delta[j], w[j], m[j], 0.25), "proximal pulls");
    }
}

}  // namespace

int main() {
    std::mt19937 generator(0);
    test_widening_is_exact();
    for (const InstructionSet* instructions : instruction_sets()) {
        for (const std::size_t size : sizes) {
            for (const std::size_t n : {0, 1, 3, 11}) {
                test_one_pass(*instructions, size, n, generator);
            }
            test_adaptive_step<Adam>(*instructions, size, generator);
            test_adaptive_step<Yogi>(*instructions, size, generator);
            test_adaptive_step<Adagrad>(*instructions, size, generator);
            test_momentum_and_proximal(*instructions, size, generator);
        }
        for (const std::size_t n : {1, 11, 70}) {
            test_every_pace_gives_the_same_bits(*instructions, n, generator);
        }
        std::printf("%s: all expectations hold\n", instructions->name.data());
    }
}
