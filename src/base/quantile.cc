#include "base/quantile.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "base/error.h"

namespace nereid {

double quantile(std::vector<double> samples, double q) {
  NEREID_CHECK(!samples.empty(), "no samples");
  const auto at = std::lround(q * static_cast<double>(samples.size() - 1));
  std::nth_element(samples.begin(), samples.begin() + at, samples.end());
  return samples[static_cast<std::size_t>(at)];
}

double median(std::vector<double> samples) { return quantile(std::move(samples), 0.5); }

}  // namespace nereid
