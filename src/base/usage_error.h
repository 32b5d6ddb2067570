// Goal: wrong usage told apart from failure: a value that a person gave is outside what it may be.
#pragma once

#include "base/error.h"

namespace nereid {

class UsageError : public Error {
 public:
  using Error::Error;
};

}  // namespace nereid
