// Goal: quantiles of measured times, one definition for what a run reports and what a bench does.
// Non-goal: interpolation. What is shown was measured.
#pragma once

#include <vector>

namespace nereid {

// Of at least one sample: the one at the sorted position round(q * (n - 1)).
double quantile(std::vector<double> samples, double q);
double median(std::vector<double> samples);

}  // namespace nereid
