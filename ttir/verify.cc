#include "base/error.h"
#include "forms.h"
#include "ir.h"

namespace nereid::ttir {

void verify(const Module& module, const std::string& where) {
  if (module.functions.size() != 1) {
    throw Error("{}:1: {} functions; expected one kernel", where, module.functions.size());
  }
}

}  // namespace nereid::ttir
