// The bindings of robust.hpp.
#pragma once

#include "arguments.hpp"

namespace llmagentos {

void add_robust(py::class_<InstructionSet>& kernels);

}  // namespace llmagentos
