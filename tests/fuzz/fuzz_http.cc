// Bytes on a connection of the HTTP interface, in front of a whole coordinator: whatever they are, what comes back is
// HTTP and no error of the coordinator's own, and the next client is served.
#include <string>

#include "common/atomic_file.h"
#include "coordinator/server/server.h"
#include "loupe/v1/sweep.pb.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/testing/fake_random.h"
#include "tests/testing/http_client.h"
#include "tests/testing/small_spec.h"
#include "tests/testing/temp_folder.h"

namespace loupe::fuzz {
namespace {

// For an answer; what is no whole request gets none.
constexpr absl::Duration kWait = absl::Milliseconds(10);

class Fixture {
 public:
  Fixture() {
    coordinator::server::ServerOptions options;
    options.data_folder = folder_ / "data";
    options.listen = "127.0.0.1:0";
    // This process is no coordinator that could run itself.
    options.analysis.program = {LOUPE_COORDINATOR, "analyse"};
    options.analysis.memory_bytes = 0;
    // All come from one machine, and many without a token.
    options.limits.strangers = options.limits.people = options.limits.workers = {};
    auto server = coordinator::server::Server::Start(options, SystemClock(), random_);
    Require(server.ok(), "a coordinator starts");
    server_ = *std::move(server);
    const std::string address = server_->http_address();
    port_ = std::atoi(address.c_str() + address.rfind(':') + 1);
    token_ = *ReadFile(options.data_folder + "/token");
    token_.pop_back();
    v1::CreateSweepRequest request;
    request.set_sweep_id("alive");
    *request.mutable_spec() = testing::SmallSpec(3, 2);
    const auto answer = testing::Fetch(port_, "POST", "/loupe.v1.SweepService/CreateSweep",
                                       {{"Authorization", "Bearer " + token_}, {"Content-Type", "application/proto"}},
                                       request.SerializeAsString());
    Require(answer.status == 200, "a sweep is created");
  }

  const std::string& token() const { return token_; }

  void Try(const std::string& bytes) const {
    testing::HttpConnection connection(port_);
    connection.Send(bytes);
    // A stream of events has no end of its own.
    const auto line = connection.ReadUntil("\r\n", kWait);
    if (line) {
      Require(line->starts_with("HTTP/1.1 ") && line->size() > 13, "an answer is HTTP");
      Require(line->compare(9, 3, "500") != 0, "no request is the coordinator's own error");
    }
    Require(testing::Fetch(port_, "GET", "/healthz").status == 200, "the next client is served");
  }

 private:
  testing::TempFolder folder_;
  testing::FakeRandom random_;
  std::unique_ptr<coordinator::server::Server> server_;
  int port_ = 0;
  std::string token_;
};

Fixture& TheFixture() {
  static Fixture fixture;
  return fixture;
}

}  // namespace

std::vector<std::string> Seeds() {
  const std::string bearer = "Host: a\r\nAuthorization: Bearer " + TheFixture().token() + "\r\n";
  const std::string json = bearer + "Content-Type: application/json\r\n";
  return {"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
          "GET /index.html?a=%2F HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"x\"\r\n\r\n",
          "POST /loupe.v1.SweepService/GetSweep HTTP/1.1\r\n" + json +
              "Content-Length: 23\r\n\r\n{\"name\":\"sweeps/alive\"}",
          "POST /loupe.v1.TrialService/ListTrials HTTP/1.1\r\n" + json +
              "Transfer-Encoding: chunked\r\n\r\n19\r\n{\"parent\":\"sweeps/alive\"}\r\n0\r\n\r\n",
          "POST /loupe.v1.SweepService/PauseSweep HTTP/1.1\r\n" + json +
              "Connect-Timeout-Ms: 100\r\nContent-Length: 23\r\n\r\n{\"name\":\"sweeps/alive\"}",
          "GET /v1/sweeps/alive/events HTTP/1.1\r\n" + bearer + "Last-Event-ID: 0123456789ab-1\r\n\r\n",
          "GET /v1/sweeps/alive/trials/0/artifacts/log.txt HTTP/1.1\r\n" + bearer + "Range: bytes=0-9\r\n\r\n",
          "POST /v1/session HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 13\r\n\r\n{\"token\":\"x\"}",
          "GET /v1/session HTTP/1.1\r\nHost: a\r\nCookie: loupe_1=a; b=c\r\nOrigin: http://a\r\n\r\n",
          "POST /v1/report HTTP/1.1\r\n" + json +
              "Content-Length: 41\r\n\r\n{\"name\":\"sweeps/alive\",\"format\":\"HTML\"}  "};
}

std::vector<std::string> Dictionary() {
  return {"\r\n",
          "\r\n\r\n",
          "HTTP/1.1",
          "HTTP/1.0",
          "Content-Length: 0\r\n",
          "Transfer-Encoding: chunked\r\n",
          "Connection: close\r\n",
          "%2e%2e/",
          "%00",
          "%",
          "\xff",
          std::string(1, '\0'),
          "99999999999999999999",
          "-1",
          "{",
          "[",
          "\"",
          "bytes=-1",
          ",",
          "*",
          "HEAD ",
          "OPTIONS * ",
          "CONNECT a:1 "};
}

int DefaultRuns() { return 400; }

}  // namespace loupe::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  loupe::fuzz::TheFixture().Try(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
