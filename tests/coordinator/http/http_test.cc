// The HTTP interface over real sockets: what answers, what is refused and how, and what a stream of events misses.
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/escaping.h"
#include "common/atomic_file.h"
#include "common/sha256.h"
#include "fmt/format.h"
#include "tests/testing/http_client.h"
#include "tests/testing/mini_sweep.h"

namespace loupe {
namespace {

using nlohmann::json;
using testing::EventReader;
using testing::Fetch;
using ::testing::HasSubstr;
using testing::HttpAnswer;
using testing::HttpConnection;
using testing::HttpHeaders;
using ::testing::Not;
using testing::SentEvent;

constexpr char kEvents[] = "/v1/sweeps/small/events";

class HttpTest : public ::testing::Test {
 protected:
  int port() const { return sweep_.http_port(); }
  std::string token() const {
    std::string text = *ReadFile(sweep_.data_folder() + "/data/token");
    return text.substr(0, text.find('\n'));
  }
  HttpHeaders Bearer(HttpHeaders more = {}) const {
    more.emplace_back("Authorization", "Bearer " + token());
    return more;
  }
  HttpAnswer Call(const std::string& method, const std::string& body) const {
    return Fetch(port(), "POST", "/loupe.v1." + method, Bearer({{"Content-Type", "application/json"}}), body);
  }
  void CreateSmall() { sweep_.Create("small", testing::SmallSpec(2, 2)); }

  testing::MiniSweep sweep_;
};

TEST_F(HttpTest, CallAnswersAsGrpcDoes) {
  CreateSmall();
  const HttpAnswer answer = Call("SweepService/GetSweep", R"({"name":"sweeps/small"})");
  ASSERT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(answer.headers.at("content-type"), "application/json");
  v1::Sweep sweep;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(answer.body, &sweep).ok()) << answer.body;
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(sweep, sweep_.Get("small")));
  // The same as protobuf's bytes.
  v1::GetSweepRequest request;
  request.set_name("sweeps/small");
  const HttpAnswer binary = Fetch(port(), "POST", "/loupe.v1.SweepService/GetSweep",
                                  Bearer({{"Content-Type", "application/proto"}}), request.SerializeAsString());
  ASSERT_EQ(binary.status, 200);
  v1::Sweep same;
  ASSERT_TRUE(same.ParseFromString(binary.body));
  EXPECT_EQ(same.uid(), sweep.uid());
}

// Every unary method that the contract has, and no other.
TEST_F(HttpTest, EveryUnaryMethodIsServed) {
  std::set<std::string> unary;
  std::set<std::string> seen;
  const auto* pool = google::protobuf::DescriptorPool::generated_pool();
  for (const char* service :
       {"AccessService", "AnalysisService", "SweepService", "TrialService", "ViewService", "WorkerService"}) {
    const auto* found = pool->FindServiceByName(fmt::format("loupe.v1.{}", service));
    for (int i = 0; found != nullptr && i < found->method_count(); ++i) {
      const auto& method = *found->method(i);
      const std::string path = fmt::format("/loupe.v1.{}/{}", service, method.name());
      const bool streams = method.client_streaming() || method.server_streaming();
      if (!streams) unary.insert(path);
      // Nobody's call: refused where there is such a method.
      const HttpAnswer answer = Fetch(port(), "POST", path, {{"Content-Type", "application/json"}}, "{}");
      if (answer.status != 404) seen.insert(path);
      EXPECT_EQ(answer.status, streams ? 404 : 401) << path << answer.body;
    }
  }
  EXPECT_EQ(seen, unary);
  const json document = json::parse(Fetch(port(), "GET", "/openapi.json").body);
  std::set<std::string> described;
  for (const auto& [path, item] : document["paths"].items()) {
    if (path.starts_with("/loupe.v1.")) described.insert(path);
  }
  EXPECT_EQ(described, unary);
}

TEST_F(HttpTest, ErrorHasConnectsForm) {
  const HttpAnswer answer = Call("SweepService/GetSweep", R"({"name":"sweeps/none"})");
  EXPECT_EQ(answer.status, 404);
  const json error = json::parse(answer.body);
  EXPECT_EQ(error["code"], "not_found");
  EXPECT_THAT(error["message"].get<std::string>(), HasSubstr("none"));
  const json& detail = error["details"].at(0);
  EXPECT_EQ(detail["type"], "google.rpc.ErrorInfo");
  EXPECT_EQ(detail["debug"]["domain"], "loupe.v1");
  EXPECT_EQ(detail["value"].get<std::string>().find('='), std::string::npos);

  const HttpAnswer wrong = Call("SweepService/ListSweeps", R"({"pageSize":-1})");
  EXPECT_EQ(wrong.status, 400);
  EXPECT_EQ(json::parse(wrong.body)["code"], "invalid_argument");
  EXPECT_EQ(Call("SweepService/PauseSweep", R"({"name":"sweeps/none","etag":"x"})").status, 404);
}

TEST_F(HttpTest, HostileRequestsHaveTheirStatus) {
  const HttpHeaders json_type = Bearer({{"Content-Type", "application/json"}});
  const std::string method = "/loupe.v1.SweepService/GetSweep";
  const auto post = [&](const std::string& body) { return Fetch(port(), "POST", method, json_type, body).status; };
  EXPECT_EQ(post("{"), 400);
  EXPECT_EQ(post("[]"), 400);
  EXPECT_EQ(post(R"({"nmae":"x"})"), 400);
  EXPECT_EQ(post(R"({"name":7})"), 400);
  EXPECT_EQ(post("{\"name\":\"\xff\xfe\"}"), 400);
  EXPECT_EQ(post(std::string(100000, '[')), 400);
  EXPECT_EQ(post(R"({"name":")" + std::string(5000, 'a') + "\"}"), 400);
  EXPECT_EQ(Fetch(port(), "GET", method, json_type).status, 405);
  EXPECT_EQ(Fetch(port(), "POST", method, Bearer({{"Content-Type", "text/plain"}}), "{}").status, 415);
  EXPECT_EQ(Fetch(port(), "POST", method, Bearer(), "{}").status, 415);
  EXPECT_EQ(
      Fetch(port(), "POST", method, Bearer({{"Content-Type", "application/json"}, {"Content-Encoding", "gzip"}}), "{}")
          .status,
      501);
  EXPECT_EQ(Fetch(port(), "POST", method,
                  Bearer({{"Content-Type", "application/json"}, {"Connect-Protocol-Version", "2"}}), "{}")
                .status,
            400);
  EXPECT_EQ(Fetch(port(), "GET", "/../etc/passwd").status, 404);
  EXPECT_EQ(Fetch(port(), "GET", "/v1/sweeps/a%2Fb/events", Bearer()).status, 404);
  EXPECT_EQ(Fetch(port(), "GET", "/v1/sweeps/A/events", Bearer()).status, 400);
  EXPECT_EQ(Fetch(port(), "DELETE", "/").status, 405);
  const auto raw = [&](const std::string& bytes) {
    HttpConnection connection(port());
    connection.Send(bytes);
    const int status = connection.ReadAnswer().status;
    // What came is no request: nothing after it can be trusted either.
    EXPECT_TRUE(connection.IsClosedWithin(absl::Seconds(10))) << bytes.substr(0, 80);
    return status;
  };
  EXPECT_EQ(raw("hello\r\n\r\n"), 400);
  EXPECT_EQ(raw("GET / HTTP/1.1\r\n\r\n"), 400);
  EXPECT_EQ(raw("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
  EXPECT_EQ(raw("GET / HTTP/3.7\r\nHost: a\r\n\r\n"), 505);
  EXPECT_EQ(raw("GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(20000, 'x') + "\r\n\r\n"), 431);
  std::string many = "GET / HTTP/1.1\r\nHost: a\r\n";
  for (int i = 0; i < 200; ++i) many += fmt::format("X-{}: 1\r\n", i);
  EXPECT_EQ(raw(many + "\r\n"), 431);
  EXPECT_EQ(raw("POST /v1/report HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n"), 413);
  EXPECT_EQ(raw("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(raw("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), 400);
  EXPECT_EQ(raw("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"), 400);
  // And the next one is served.
  EXPECT_EQ(Fetch(port(), "GET", "/healthz").body, "ok\n");
}

TEST_F(HttpTest, ConnectionServesManyRequests) {
  HttpConnection connection(port());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(connection.Fetch("GET", "/readyz").status, 200);
  // Sent at one go, answered one after the other.
  connection.Send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nHEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(connection.ReadAnswer().body, "ok\n");
  const HttpAnswer head = connection.ReadAnswer(/*has_body=*/false);
  EXPECT_EQ(head.headers.at("content-length"), "3");
  connection.Send("POST /v1/session HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(connection.ReadHead().status, 100);
  connection.Send("{}");
  EXPECT_EQ(connection.ReadAnswer().status, 400);
  connection.Send("GET /healthz HTTP/1.0\r\n\r\n");
  EXPECT_EQ(connection.ReadAnswer().status, 200);
  EXPECT_TRUE(connection.IsClosedWithin(absl::Seconds(10)));
}

TEST_F(HttpTest, RolesAreThoseOfGrpc) {
  CreateSmall();
  const std::string viewer = *coordinator::access::AccessControl::AddToken(sweep_.data_folder() + "/data", "looks",
                                                                           coordinator::access::Role::kViewer,
                                                                           absl::InfiniteDuration(), SystemClock());
  const HttpHeaders headers = {{"Authorization", "Bearer " + viewer}, {"Content-Type", "application/json"}};
  const std::string body = R"({"name":"sweeps/small"})";
  EXPECT_EQ(Fetch(port(), "POST", "/loupe.v1.SweepService/GetSweep", headers, body).status, 200);
  const HttpAnswer refused = Fetch(port(), "POST", "/loupe.v1.SweepService/PauseSweep", headers, body);
  EXPECT_EQ(refused.status, 403);
  EXPECT_EQ(json::parse(refused.body)["code"], "permission_denied");
  EXPECT_EQ(Fetch(port(), "GET", kEvents).status, 401);
  EXPECT_EQ(Fetch(port(), "GET", "/metrics").status, 401);
  EXPECT_EQ(Fetch(port(), "GET", "/v1/sweeps/small/trials/0/artifacts/log.txt").status, 401);
  // The audit log has what was refused, as of gRPC.
  EXPECT_THAT(*ReadFile(sweep_.data_folder() + "/data/audit.log"),
              HasSubstr("looks paused 'sweeps/small' PERMISSION_DENIED"));
}

TEST_F(HttpTest, BrowserSignsInOnce) {
  CreateSmall();
  const auto sign_in = [&](const std::string& token, const HttpHeaders& headers = {}) {
    return Fetch(port(), "POST", "/v1/session", headers, json{{"token", token}}.dump());
  };
  EXPECT_EQ(sign_in("wrong").status, 401);
  EXPECT_EQ(sign_in(token(), {{"Origin", "http://evil.example"}}).status, 400);
  const HttpAnswer in = sign_in(token(), {{"Origin", "http://localhost"}});
  ASSERT_EQ(in.status, 204);
  const std::string set = in.headers.at("set-cookie");
  EXPECT_THAT(set, HasSubstr("; HttpOnly; SameSite=Strict"));
  const std::string cookie = set.substr(0, set.find(';'));
  const HttpAnswer who = Fetch(port(), "GET", "/v1/session", {{"Cookie", "other=1; " + cookie}});
  EXPECT_EQ(json::parse(who.body)["role"], "admin");
  const std::string body = R"({"name":"sweeps/small"})";
  const auto get = [&](HttpHeaders headers) {
    headers.emplace_back("Cookie", cookie);
    headers.emplace_back("Content-Type", "application/json");
    return Fetch(port(), "POST", "/loupe.v1.SweepService/GetSweep", headers, body).status;
  };
  EXPECT_EQ(get({}), 200);
  EXPECT_EQ(get({{"Origin", "http://localhost"}, {"Sec-Fetch-Site", "same-origin"}}), 200);
  // Another port of the same machine is the same site to a browser, and not the same to us.
  EXPECT_EQ(get({{"Origin", "http://localhost:8888"}, {"Sec-Fetch-Site", "same-site"}}), 401);
  EXPECT_EQ(get({{"Sec-Fetch-Site", "cross-site"}}), 401);
  EXPECT_THAT(Fetch(port(), "DELETE", "/v1/session").headers.at("set-cookie"), HasSubstr("Max-Age=0"));
}

TEST_F(HttpTest, NothingOfAnAnswerRunsInABrowser) {
  for (const char* path : {"/healthz", "/openapi.json", "/nothing.txt"}) {
    const HttpAnswer answer = Fetch(port(), "GET", path);
    EXPECT_THAT(answer.headers.at("content-security-policy"), HasSubstr("default-src 'none'")) << path;
    EXPECT_EQ(answer.headers.at("x-content-type-options"), "nosniff") << path;
    EXPECT_EQ(answer.headers.at("cache-control"), "no-store") << path;
  }
}

TEST_F(HttpTest, ThumbnailIsAPictureWithAnETagOfItsOwn) {
  CreateSmall();
  sweep_.AddWorker("w1");
  sweep_.WaitUntilEnded("small");
  const std::string path = "/v1/sweeps/small/trials/0/artifacts/samples.png";
  const HttpAnswer all = Fetch(port(), "GET", path, Bearer());
  const HttpAnswer small = Fetch(port(), "GET", path + "?width=320", Bearer());
  ASSERT_EQ(small.status, 200) << small.body;
  // One pixel is not wider.
  EXPECT_EQ(small.body, all.body);
  EXPECT_EQ(small.headers.at("content-type"), "image/png");
  EXPECT_EQ(small.headers.at("content-length"), fmt::format("{}", small.body.size()));
  const std::string etag = small.headers.at("etag");
  EXPECT_EQ(etag, fmt::format("\"{}-320\"", Sha256Hex(all.body)));
  EXPECT_EQ(Fetch(port(), "GET", path + "?width=320", Bearer({{"If-None-Match", etag}})).status, 304);
  const HttpAnswer head = Fetch(port(), "HEAD", path + "?width=320", Bearer());
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.at("content-length"), small.headers.at("content-length"));
  const HttpAnswer odd = Fetch(port(), "GET", path + "?width=321", Bearer());
  EXPECT_EQ(odd.status, 400);
  EXPECT_THAT(odd.body, HasSubstr("80, 160, 320, 640"));
  EXPECT_EQ(Fetch(port(), "GET", path + "?width=321").status, 401);
  EXPECT_EQ(Fetch(port(), "GET", path + "?width=320").status, 401);
  const HttpAnswer text = Fetch(port(), "GET", "/v1/sweeps/small/trials/0/artifacts/log.txt?width=80", Bearer());
  EXPECT_EQ(text.status, 400);
  EXPECT_THAT(text.body, HasSubstr("no PNG picture"));
}

TEST_F(HttpTest, ArtifactComesWholeInPartsOrNotAtAll) {
  CreateSmall();
  sweep_.AddWorker("w1");
  sweep_.WaitUntilEnded("small");
  const std::string path = "/v1/sweeps/small/trials/0/artifacts/log.txt";
  const HttpAnswer all = Fetch(port(), "GET", path, Bearer());
  ASSERT_EQ(all.status, 200) << all.body;
  ASSERT_GT(all.body.size(), 4U);
  const std::string etag = all.headers.at("etag");
  EXPECT_EQ(etag, fmt::format("\"{}\"", Sha256Hex(all.body)));
  const HttpAnswer part = Fetch(port(), "GET", path, Bearer({{"Range", "bytes=1-3"}, {"If-Range", etag}}));
  EXPECT_EQ(part.status, 206);
  EXPECT_EQ(part.body, all.body.substr(1, 3));
  EXPECT_EQ(part.headers.at("content-range"), fmt::format("bytes 1-3/{}", all.body.size()));
  EXPECT_EQ(Fetch(port(), "GET", path, Bearer({{"Range", "bytes=99999999-"}})).status, 416);
  EXPECT_EQ(Fetch(port(), "GET", path, Bearer({{"If-None-Match", etag}})).status, 304);
  const HttpAnswer head = Fetch(port(), "HEAD", path, Bearer());
  EXPECT_EQ(head.headers.at("content-length"), fmt::format("{}", all.body.size()));
  EXPECT_EQ(Fetch(port(), "GET", "/v1/sweeps/small/trials/0/artifacts/none.txt", Bearer()).status, 404);
  EXPECT_EQ(Fetch(port(), "GET", "/v1/sweeps/small/trials/9999/artifacts/log.txt", Bearer()).status, 404);
  EXPECT_EQ(Fetch(port(), "GET", "/v1/sweeps/small/trials/0/artifacts/..%2f..%2ftoken", Bearer()).status, 404);

  const HttpAnswer report = Fetch(port(), "POST", "/v1/report", Bearer(), R"({"name":"sweeps/small","format":"CSV"})");
  EXPECT_EQ(report.status, 200) << report.body;
  EXPECT_THAT(report.headers.at("content-type"), HasSubstr("text/csv"));
  EXPECT_EQ(Fetch(port(), "POST", "/v1/report", Bearer(), R"({"name":"sweeps/none"})").status, 404);
}

// The text that Prometheus scrapes says what the sweep says.
TEST_F(HttpTest, MetricsCountWhatHappened) {
  CreateSmall();
  sweep_.AddWorker("w1");
  sweep_.WaitUntilEnded("small");
  const HttpAnswer metrics = Fetch(port(), "GET", "/metrics", Bearer());
  ASSERT_EQ(metrics.status, 200) << metrics.body;
  EXPECT_EQ(metrics.headers.at("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  const size_t trials = sweep_.Trials("small").size();
  for (const std::string& line :
       {fmt::format("loupe_trial_attempts_total{{outcome=\"succeeded\"}} {}\n", trials),
        fmt::format("loupe_results_accepted_total {}\n", trials), std::string("loupe_sweeps{state=\"completed\"} 1\n"),
        std::string("# TYPE loupe_db_commit_duration_seconds histogram\n"), std::string("loupe_slots 1\n")}) {
    EXPECT_THAT(metrics.body, HasSubstr(line));
  }
}

// Reads until an event of that name, and gives it.
std::optional<SentEvent> Await(EventReader& reader, const std::string& name) {
  for (;;) {
    std::optional<SentEvent> event = reader.Next();
    if (!event || event->name == name) return event;
  }
}

TEST_F(HttpTest, EventsTellEveryTrialAndTheEnd) {
  CreateSmall();
  EventReader reader(port(), kEvents, Bearer());
  ASSERT_EQ(reader.head().status, 200);
  EXPECT_EQ(reader.head().headers.at("content-type"), "text/event-stream");
  const std::optional<SentEvent> first = reader.Next();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->name, "sweep");
  EXPECT_EQ(json::parse(first->data)["sweep"]["name"], "sweeps/small");
  sweep_.AddWorker("w1");
  std::set<std::string> succeeded;
  std::optional<SentEvent> event;
  while ((event = reader.Next()) && event->name != "end") {
    if (event->name != "trials") continue;
    const json changed = json::parse(event->data);
    for (const json& trial : changed["trials"]) {
      if (trial["state"] == "SUCCEEDED") succeeded.insert(trial["name"]);
    }
  }
  ASSERT_TRUE(event);
  EXPECT_EQ(succeeded.size(), sweep_.Trials("small").size());
  EXPECT_TRUE(reader.connection().IsClosedWithin(absl::Seconds(10)));
  // A browser would ask again: there is nothing more.
  EXPECT_EQ(Fetch(port(), "GET", kEvents, Bearer({{"Last-Event-ID", event->id}})).status, 204);
  EXPECT_EQ(Fetch(port(), "GET", "/v1/sweeps/none/events", Bearer()).status, 404);
}

// A stream that is cut goes on behind the last event that it had.
TEST_F(HttpTest, CutStreamGoesOnWhereItWas) {
  CreateSmall();
  std::string last;
  {
    EventReader reader(port(), kEvents, Bearer());
    last = reader.Next()->id;
  }
  sweep_.AddWorker("w1");
  sweep_.WaitUntilEnded("small");
  EventReader reader(port(), kEvents, Bearer({{"Last-Event-ID", last}}));
  std::set<std::string> succeeded;
  std::optional<SentEvent> event;
  while ((event = reader.Next()) && event->name != "end") {
    EXPECT_NE(event->name, "reload");
    if (event->name != "trials") continue;
    const json changed = json::parse(event->data);
    for (const json& trial : changed["trials"]) {
      if (trial["state"] == "SUCCEEDED") succeeded.insert(trial["name"]);
    }
  }
  EXPECT_EQ(succeeded.size(), sweep_.Trials("small").size());
}

// Another process does not know what the one before it told: the stream is told to load again, and goes on.
TEST_F(HttpTest, StreamOutlivesTheCoordinator) {
  CreateSmall();
  std::string last;
  {
    EventReader reader(port(), kEvents, Bearer());
    last = reader.Next()->id;
    sweep_.RestartCoordinator();
    EXPECT_TRUE(reader.connection().IsClosedWithin(absl::Seconds(10)));
  }
  EventReader reader(port(), kEvents, Bearer({{"Last-Event-ID", last}}));
  std::optional<SentEvent> event = reader.Next();
  ASSERT_TRUE(event);
  EXPECT_EQ(event->name, "reload");
  event = reader.Next();
  ASSERT_TRUE(event);
  EXPECT_EQ(event->name, "sweep");
  EXPECT_NE(event->id, last);
  sweep_.AddWorker("w1");
  EXPECT_TRUE(Await(reader, "trials"));
  EXPECT_TRUE(Await(reader, "end"));
}

TEST_F(HttpTest, RevokedTokenEndsItsStreams) {
  CreateSmall();
  const std::string folder = sweep_.data_folder() + "/data";
  const std::string viewer = *coordinator::access::AccessControl::AddToken(
      folder, "looks", coordinator::access::Role::kViewer, absl::InfiniteDuration(), SystemClock());
  EventReader reader(port(), kEvents, {{"Authorization", "Bearer " + viewer}});
  ASSERT_TRUE(reader.Next());
  ASSERT_TRUE(coordinator::access::AccessControl::RemoveToken(folder, "looks").ok());
  EXPECT_TRUE(reader.connection().IsClosedWithin(absl::Seconds(10)));
}

}  // namespace
}  // namespace loupe
