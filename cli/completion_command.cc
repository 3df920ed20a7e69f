// `loupe completion`, and what its scripts call at each tab.
#include <algorithm>
#include <memory>

#include "absl/time/time.h"
#include "cli/commands.h"
#include "cli/completion.h"
#include "cli/connect.h"
#include "cli/exit_code.h"
#include "cli/failure.h"
#include "cli/output.h"
#include "cli/sweep_name.h"
#include "cli/views.h"
#include "common/clock.h"
#include "fmt/format.h"
#include "loupe/v1/sweep.grpc.pb.h"
#include "loupe/v1/trial.grpc.pb.h"
#include "loupe/v1/worker.grpc.pb.h"

namespace loupe::cli {
namespace {

// Of all questions of one tab. Whoever waits longer types the name.
constexpr absl::Duration kPatience = absl::Seconds(1);
constexpr int kMostNames = 1000;

// Silent: without an answer in time there are no names.
class CoordinatorNames : public NameSource {
 public:
  explicit CoordinatorNames(const ConnectFlags& flags) : deadline_(SystemClock().MonotonicNow() + kPatience) {
    absl::StatusOr<std::shared_ptr<clients::rpc::Connection>> connection = Connect(flags);
    if (connection.ok()) connection_ = *std::move(connection);
  }

  std::vector<std::string> Sweeps() override {
    v1::ListSweepsRequest request;
    request.set_page_size(kMostNames);
    const auto response = Ask<v1::SweepService, v1::ListSweepsResponse>(&v1::SweepService::Stub::ListSweeps, request);
    return NamesOf(response.sweeps());
  }

  std::vector<std::string> Trials(const std::string& sweep) override {
    const absl::StatusOr<std::string> name = SweepName(sweep);
    if (!name.ok()) return {};
    v1::GetSweepRequest request;
    request.set_name(*name);
    const auto response = Ask<v1::SweepService, v1::Sweep>(&v1::SweepService::Stub::GetSweep, request);
    std::vector<std::string> names;
    for (int64_t i = 0; i < std::min<int64_t>(response.counts().total(), kMostNames); ++i)
      names.push_back(fmt::format("{}", i));
    return names;
  }

  std::vector<std::string> Artifacts(const std::string& sweep, const std::string& trial) override {
    const absl::StatusOr<std::string> name = SweepName(sweep);
    if (!name.ok()) return {};
    v1::ListArtifactsRequest request;
    request.set_parent(fmt::format("{}/trials/{}", *name, trial));
    const auto response =
        Ask<v1::TrialService, v1::ListArtifactsResponse>(&v1::TrialService::Stub::ListArtifacts, request);
    return NamesOf(response.artifacts());
  }

  std::vector<std::string> Workers() override {
    v1::ListWorkersRequest request;
    request.set_page_size(kMostNames);
    const auto response =
        Ask<v1::WorkerService, v1::ListWorkersResponse>(&v1::WorkerService::Stub::ListWorkers, request);
    return NamesOf(response.workers());
  }

 private:
  template <typename Service, typename Response, typename Method, typename Request>
  Response Ask(Method method, const Request& request) {
    Response response;
    if (connection_ == nullptr || !clients::rpc::FieldNotUtf8(request).empty()) return response;
    const auto stub = Service::NewStub(connection_->channel());
    grpc::ClientContext context;
    connection_->Prepare(context, deadline_ - SystemClock().MonotonicNow());
    if (!((*stub).*method)(&context, request, &response).ok()) return Response();
    return response;
  }

  template <typename List>
  static std::vector<std::string> NamesOf(const List& list) {
    std::vector<std::string> names;
    for (const auto& item : list) names.push_back(LastPart(item.name()));
    return names;
  }

  const absl::Duration deadline_;
  std::shared_ptr<clients::rpc::Connection> connection_;
};

// The options of the connection among `words`, as far as they are whole.
ConnectFlags FlagsIn(const std::vector<std::string>& words) {
  CLI::App app;
  ConnectFlags flags;
  AddConnectOptions(app, flags);
  app.set_help_flag();
  app.allow_extras();
  // CLI11 takes them last first.
  std::vector<std::string> reversed(words.rbegin(), words.rend());
  if (!reversed.empty()) reversed.erase(reversed.begin());
  std::erase(reversed, "=");
  try {
    app.parse(reversed);
  } catch (const CLI::ParseError&) {
    return {};
  }
  return flags;
}

// Asks for a connection when the first name is wanted: most tabs want none.
class LazyNames : public NameSource {
 public:
  explicit LazyNames(const std::vector<std::string>& words) : words_(words) {}
  std::vector<std::string> Sweeps() override { return Names().Sweeps(); }
  std::vector<std::string> Trials(const std::string& sweep) override { return Names().Trials(sweep); }
  std::vector<std::string> Artifacts(const std::string& sweep, const std::string& trial) override {
    return Names().Artifacts(sweep, trial);
  }
  std::vector<std::string> Workers() override { return Names().Workers(); }

 private:
  CoordinatorNames& Names() {
    if (names_ == nullptr) names_ = std::make_unique<CoordinatorNames>(FlagsIn(words_));
    return *names_;
  }
  const std::vector<std::string>& words_;
  std::unique_ptr<CoordinatorNames> names_;
};

}  // namespace

int PrintCompletions(const CLI::App& app, const std::vector<std::string>& words) {
  LazyNames names(words);
  return Fail(WriteBytes(CompletionLines(Complete(app, words, names)), ""));
}

void AddCompletionCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("completion", "Print the script by which a shell completes this command");
  const auto shell = std::make_shared<std::string>();
  command->add_option("shell", *shell, "bash, zsh or fish")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->callback([shell, &exit_code] { exit_code = Fail(WriteBytes(CompletionScript(*shell), "")); });
}

}  // namespace loupe::cli
