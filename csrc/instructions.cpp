// Which instruction sets were compiled, and which of them this processor has.
#include "instructions.hpp"

#include <array>

namespace llmagentos {

extern const InstructionSet baseline;

#ifdef LLMAGENTOS_X86_64
extern const InstructionSet avx2, avx512;

namespace {

bool has_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi2");
}

bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}

}  // namespace

std::span<const InstructionSet* const> instruction_sets() {
    static constexpr std::array all = {&baseline, &avx2, &avx512};
    static const std::size_t count = has_avx512() ? 3 : has_avx2() ? 2 : 1;
    return std::span(all).first(count);
}

bool is_amd() { return __builtin_cpu_is("amd"); }
#else
std::span<const InstructionSet* const> instruction_sets() {
    static constexpr std::array all = {&baseline};
    return all;
}

bool is_amd() { return false; }
#endif

}  // namespace llmagentos
