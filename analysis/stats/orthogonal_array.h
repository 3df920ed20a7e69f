// Orthogonal arrays of strength 2: fractions in which every pair of factors shows all its level combinations equally
// often, so that main effects are estimated as if each factor were studied alone.
//
// Construction: linear forms over the Galois field GF(s) (Rao 1947, Hamming; Hedayat, Sloane & Stufken 1999 §3.1) give
// s^n runs for (s^n − 1)/(s − 1) factors of s levels, s = 2, 3, 4, 5, 7, 8, 9, 11, 13, 16. A factor whose level count
// divides s is made by collapsing levels; one factor may have m·s levels (m copies of the array, ibid. §9).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace loupe::analysis::stats {

// Rows of level indices, one column per entry of `levels` (each ≥ 2), with the fewest runs that these constructions
// reach, if that is at most `max_runs`.
std::optional<std::vector<std::vector<int32_t>>> FindOrthogonalArray(const std::vector<int32_t>& levels,
                                                                     size_t max_runs);

}  // namespace loupe::analysis::stats
