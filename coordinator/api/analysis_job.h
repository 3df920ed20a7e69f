// One analysis as a job of its own: from a request and the data folder to the answer's bytes, in a process that nothing
// else depends on (analysis_runner.h starts it). Whatever the scores are, the worst that an analysis can do is end that
// process.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "loupe/v1/analysis.pb.h"

namespace loupe::coordinator::api {

// The job's input: which method's request it is, and its bytes.
std::string JobFor(const v1::GetAnovaRequest& request);
std::string JobFor(const v1::RenderReportRequest& request);

// What the process hands back: a status, and a serialised GetAnovaResponse or the report's bytes (empty unless the
// status is OK).
struct AnalysisAnswer {
  absl::Status status;
  std::string payload;
};
std::string EncodeAnswer(const AnalysisAnswer& answer);
// DATA_LOSS when the bytes are cut off, or none of EncodeAnswer's.
absl::StatusOr<AnalysisAnswer> DecodeAnswer(std::string_view bytes);

// The main function of that process: reads a job from standard input and writes an EncodeAnswer to standard output.
// Ends with its parent; takes at most `memory_bytes` of address space (0: no limit). The exit code is 0 whatever the
// answer's status.
int RunAnalysisProcess(const std::string& data_folder, int64_t memory_bytes);

}  // namespace loupe::coordinator::api
