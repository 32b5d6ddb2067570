// Goal: what a Service is made of, for those who serve other things than a model directory.
// Non-goal: an installed interface.
#pragma once

#include <utility>

#include "engine/service_core.h"
#include "nereid/service.h"

namespace nereid {

struct Service::Impl {
  Impl(engine::ModelOpener opener, ServiceOptions options)
      : core(std::move(opener), std::move(options)) {}
  // For layers above, which use more of it than is installed.
  static const Impl& of(const Service& service) { return *service.impl_; }

  engine::ServiceCore core;
};

}  // namespace nereid
