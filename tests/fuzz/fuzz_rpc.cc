// Every method's request, as parsed messages with changed fields and as plain bytes, against a coordinator over a real
// socket: it answers each with a status of the contract, goes on answering, and its database stays sound.
//
// An input is the method's number (one byte) and the serialised request.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/dynamic_message.h>

#include <algorithm>

#include "clients/rpc/connection.h"
#include "common/atomic_file.h"
#include "common/sha256.h"
#include "coordinator/server/server.h"
#include "coordinator/store/upkeep/doctor.h"
#include "fmt/format.h"
#include "loupe/v1/analysis.grpc.pb.h"
#include "loupe/v1/sweep.grpc.pb.h"
#include "loupe/v1/trial.grpc.pb.h"
#include "loupe/v1/worker.grpc.pb.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/message_mutator.h"
#include "tests/testing/fake_random.h"
#include "tests/testing/raw_call.h"
#include "tests/testing/small_spec.h"
#include "tests/testing/temp_folder.h"

namespace loupe::fuzz {
namespace {

struct Method {
  std::string name;
  const google::protobuf::Descriptor* input = nullptr;
};

class Fixture {
 public:
  Fixture() {
    const auto& pool = *google::protobuf::DescriptorPool::generated_pool();
    for (const char* service : {"SweepService", "TrialService", "WorkerService", "AnalysisService", "ViewService"}) {
      const auto* descriptor = pool.FindServiceByName(fmt::format("loupe.v1.{}", service));
      for (int i = 0; i < descriptor->method_count(); ++i) {
        methods_.push_back({fmt::format("loupe.v1.{}/{}", service, descriptor->method(i)->name()),
                            descriptor->method(i)->input_type()});
      }
    }
    coordinator::server::ServerOptions options;
    options.data_folder = folder_ / "data";
    options.listen = "127.0.0.1:0";
    options.limits.workers.per_second = 0;
    options.analysis.program = {LOUPE_COORDINATOR, "analyse"};
    options.analysis.memory_bytes = 0;
    // Held calls come back soon.
    options.scheduler.lease = absl::Milliseconds(60);
    options.scheduler.report_interval = absl::Milliseconds(1);
    auto server = coordinator::server::Server::Start(options, SystemClock(), random_);
    Require(server.ok(), "the coordinator starts");
    server_ = *std::move(server);
    connection_ = *clients::rpc::Connection::Open(*clients::rpc::ResolveConnectOptions(
        {.address = server_->address(), .token_file = options.data_folder + "/token"}));
    v1::CreateSweepRequest request;
    request.set_sweep_id("alive");
    *request.mutable_spec() = testing::SmallSpec(3, 2);
    grpc::ClientContext context;
    connection_->Prepare(context);
    v1::CreateSweepResponse response;
    Require(v1::SweepService::NewStub(connection_->channel())->CreateSweep(&context, request, &response).ok(),
            "a sweep is created");
  }

  ~Fixture() {
    server_.reset();
    const auto report = coordinator::store::upkeep::Examine(folder_ / "data");
    Require(report.ok(), "the database can be read afterwards");
    for (const std::string& damage : report->Damage()) Require(false, damage.c_str());
  }

  const std::vector<Method>& methods() const { return methods_; }
  size_t NumberOf(const std::string& name) const {
    const auto ends = [&](const Method& method) { return method.name.ends_with("/" + name); };
    return static_cast<size_t>(std::find_if(methods_.begin(), methods_.end(), ends) - methods_.begin());
  }

  grpc::StatusCode Call(const Method& method, const std::string& request) {
    std::string token = *ReadFile(folder_ / "data/token");
    token.pop_back();
    std::vector<std::string> messages = {request};
    if (method.name.ends_with("UploadArtifact")) {
      v1::UploadArtifactRequest chunk;
      chunk.set_chunk("hello");
      messages.push_back(chunk.SerializeAsString());
    }
    // A watch of a sweep that is not done goes on for ever.
    const bool endless = method.name.ends_with("WatchSweep");
    return testing::RawCall(connection_->channel(), method.name, token, messages,
                            endless ? absl::Milliseconds(30) : absl::Seconds(20))
        .error_code();
  }

 private:
  testing::TempFolder folder_;
  testing::FakeRandom random_;
  std::vector<Method> methods_;
  std::unique_ptr<coordinator::server::Server> server_;
  std::shared_ptr<clients::rpc::Connection> connection_;
};

Fixture& TheFixture() {
  static Fixture fixture;
  return fixture;
}

std::string Seed(const std::string& method, const google::protobuf::Message& request) {
  return std::string(1, static_cast<char>(TheFixture().NumberOf(method))) + request.SerializeAsString();
}

std::vector<std::string> Words() {
  return {"",
          "alive",
          "sweeps/alive",
          "sweeps/alive/trials/0",
          "sweeps/alive/trials/5",
          "sweeps/none",
          "workers/w",
          "s",
          "samples.png",
          "log.txt",
          "../x",
          "clip_i",
          "loss",
          Sha256Hex("hello"),
          std::string(32, '0'),
          "method.scale",
          "scale",
          "input",
          "SA_in",
          "1",
          "-1",
          "1e999",
          "input * scale",
          "input + scale",
          "1-1-1",
          "00000000-0000-4000-8000-000000000000"};
}

}  // namespace

std::vector<std::string> Seeds() {
  std::vector<std::string> seeds;
  // An empty request of each, and what a well-behaved client sends.
  for (size_t i = 0; i < TheFixture().methods().size(); ++i) seeds.push_back(std::string(1, static_cast<char>(i)));
  v1::CreateSweepRequest create;
  create.set_sweep_id("another");
  create.set_request_id("00000000-0000-4000-8000-000000000000");
  *create.mutable_spec() = testing::SmallSpec(1, 1);
  seeds.push_back(Seed("CreateSweep", create));
  v1::SynchronizeRequest sync;
  sync.set_worker("workers/w");
  sync.set_session_id("s");
  sync.set_slots(1);
  seeds.push_back(Seed("Synchronize", sync));
  auto* report = sync.add_attempts();
  report->mutable_lease()->set_trial("sweeps/alive/trials/0");
  report->mutable_lease()->set_epoch(1);
  report->mutable_lease()->set_lease_token(std::string(32, '0'));
  report->add_points()->set_metric("loss");
  report->set_point_sequence(1);
  (*report->mutable_success()->mutable_scores())["clip_i"] = 0.5;
  seeds.push_back(Seed("Synchronize", sync));
  v1::UploadArtifactRequest upload;
  *upload.mutable_header()->mutable_lease() = report->lease();
  upload.mutable_header()->mutable_artifact()->set_name("log.txt");
  upload.mutable_header()->mutable_artifact()->set_size_bytes(5);
  upload.mutable_header()->mutable_artifact()->set_sha256(Sha256Hex("hello"));
  seeds.push_back(Seed("UploadArtifact", upload));
  v1::ListTrialsRequest trials;
  trials.set_parent("sweeps/alive");
  trials.add_states(v1::Trial::QUEUED);
  seeds.push_back(Seed("ListTrials", trials));
  v1::RetryTrialsRequest retry;
  retry.set_name("sweeps/alive");
  (*retry.mutable_cell())["scale"] = "1";
  seeds.push_back(Seed("RetryTrials", retry));
  v1::GetAnovaRequest anova;
  anova.set_name("sweeps/alive");
  anova.set_terms("input + scale");
  seeds.push_back(Seed("GetAnova", anova));
  v1::RenderReportRequest render;
  render.set_name("sweeps/alive");
  render.set_format(v1::RenderReportRequest::HTML);
  seeds.push_back(Seed("RenderReport", render));
  return seeds;
}

std::vector<std::string> Dictionary() { return Words(); }

int DefaultRuns() { return 3000; }

}  // namespace loupe::fuzz

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned int seed) {
  using namespace loupe::fuzz;  // NOLINT: one function
  if (size == 0) return 0;
  const auto& methods = TheFixture().methods();
  const Method& method = methods[data[0] % methods.size()];
  google::protobuf::DynamicMessageFactory factory;
  const std::unique_ptr<google::protobuf::Message> message(factory.GetPrototype(method.input)->New());
  if (!message->ParseFromArray(data + 1, static_cast<int>(size - 1))) message->Clear();
  MessageMutator mutator(seed, Words());
  mutator.Change(*message);
  std::string bytes;
  // Fields of an invalid text are the plain mutations' business.
  if (!message->SerializeToString(&bytes) || bytes.size() + 1 > max_size) return size;
  std::copy(bytes.begin(), bytes.end(), data + 1);
  return bytes.size() + 1;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loupe::fuzz;  // NOLINT: one function
  if (size == 0) return 0;
  Fixture& fixture = TheFixture();
  const Method& method = fixture.methods()[data[0] % fixture.methods().size()];
  const grpc::StatusCode code = fixture.Call(method, std::string(reinterpret_cast<const char*>(data + 1), size - 1));
  switch (code) {
    case grpc::StatusCode::OK:
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::NOT_FOUND:
    case grpc::StatusCode::ALREADY_EXISTS:
    case grpc::StatusCode::FAILED_PRECONDITION:
    case grpc::StatusCode::ABORTED:
    // A held call that the worker's next one replaces; a watch that is given up; an upload that is not what was
    // announced.
    case grpc::StatusCode::CANCELLED:
    case grpc::StatusCode::DATA_LOSS:
      return 0;
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      Require(method.name.ends_with("WatchSweep"), "every call ends");
      return 0;
    // gRPC's own answers to bytes that are no message of the method's type; the second is that of methods served by
    // callbacks.
    case grpc::StatusCode::INTERNAL:
    case grpc::StatusCode::UNIMPLEMENTED: {
      google::protobuf::DynamicMessageFactory factory;
      const std::unique_ptr<google::protobuf::Message> message(factory.GetPrototype(method.input)->New());
      Require(!message->ParseFromArray(data + 1, static_cast<int>(size - 1)),
              "INTERNAL and UNIMPLEMENTED are for requests that cannot be parsed");
      return 0;
    }
    default:
      break;
  }
  Require(false, fmt::format("{} answers {}", method.name, static_cast<int>(code)).c_str());
  return 0;
}
