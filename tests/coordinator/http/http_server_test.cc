// What a client may do to the server's time: nothing, for long.
#include "coordinator/http/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <future>
#include <mutex>
#include <string>

#include "tests/testing/http_client.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator::http {
namespace {

using testing::HttpConnection;

class HttpServerTest : public ::testing::Test {
 protected:
  void Start(const HttpLimits& limits, Handler handler, const std::string& listen = "127.0.0.1:0") {
    auto server =
        HttpServer::Start(*access::ListenSockets::Open(listen, "--http-listen"), *tls_, limits, std::move(handler));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  void StartEcho(const HttpLimits& limits, const std::string& listen = "127.0.0.1:0") {
    const auto echo = [](const std::shared_ptr<Exchange>& exchange) {
      exchange->Respond({.status = 200, .headers = {}, .body = exchange->request().body});
    };
    Start(limits, echo, listen);
  }

  const testing::TempFolder folder_;
  const std::unique_ptr<access::ServerTls> tls_ = *access::ServerTls::Open({}, "127.0.0.1:0", folder_.path());
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, SlowHeadsAndBodiesEnd) {
  StartEcho({.head_time = absl::Milliseconds(300), .body_time = absl::Milliseconds(300)});
  HttpConnection silent(server_->port());
  HttpConnection slow_head(server_->port());
  slow_head.Send("POST / HTTP/1.1\r\nHost: a\r\nX: ");
  HttpConnection slow_body(server_->port());
  slow_body.Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(slow_head.ReadAnswer().status, 408);
  EXPECT_EQ(slow_body.ReadAnswer().status, 408);
  EXPECT_TRUE(slow_head.IsClosedWithin(absl::Seconds(10)));
  EXPECT_TRUE(slow_body.IsClosedWithin(absl::Seconds(10)));
  // Of one that sent nothing there is nothing to say.
  EXPECT_EQ(silent.ReadAnswer().status, 0);
  EXPECT_TRUE(silent.IsClosedWithin(absl::ZeroDuration()));
}

TEST_F(HttpServerTest, WhoDoesNotReadIsCutOff) {
  std::promise<void> begun;
  Start({.read_time = absl::Milliseconds(300)}, [&begun](const std::shared_ptr<Exchange>& exchange) {
    begun.set_value();
    exchange->RespondFrom(
        {.status = 200, .headers = {}, .body = ""}, int64_t{1} << 30,
        [](const std::function<void(Piece)>& deliver) { deliver(std::string(256 << 10, 'a')); }, nullptr);
  });
  HttpConnection connection(server_->port());
  connection.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  begun.get_future().wait();
  // The socket's buffers are all that it gets; a stop waits for its end, not for its reading.
  server_->Stop(absl::Seconds(10));
  EXPECT_TRUE(connection.IsClosedWithin(absl::Seconds(10)));
}

// A socket for IPv6 takes IPv4 too (systemd's ListenStream=7118): its client is still this machine's.
TEST_F(HttpServerTest, OwnMachineIsKnownByEitherFamily) {
  StartEcho({.connections_of_one_machine = 1}, "[::]:0");
  HttpConnection first(server_->port());
  HttpConnection second(server_->port());
  EXPECT_EQ(first.Fetch("GET", "/").status, 200);
  EXPECT_EQ(second.Fetch("GET", "/").status, 200);
}

TEST_F(HttpServerTest, MoreConnectionsAreTurnedAway) {
  StartEcho({.connections = 2});
  HttpConnection first(server_->port());
  HttpConnection second(server_->port());
  EXPECT_EQ(first.Fetch("GET", "/").status, 200);
  EXPECT_EQ(second.Fetch("GET", "/").status, 200);
  HttpConnection third(server_->port());
  EXPECT_TRUE(third.IsClosedWithin(absl::Seconds(10)));
  EXPECT_EQ(second.Fetch("GET", "/").status, 200);
}

// An answer that comes after its client has gone goes nowhere, and one whose client is there reaches it.
TEST_F(HttpServerTest, ClientsThatLeaveAreNoticed) {
  std::mutex mutex;
  std::condition_variable changed;
  std::shared_ptr<Exchange> held;
  bool gone = false;
  Start({}, [&](const std::shared_ptr<Exchange>& exchange) {
    exchange->OnGone([&] {
      const std::lock_guard<std::mutex> lock(mutex);
      gone = true;
      changed.notify_all();
    });
    const std::lock_guard<std::mutex> lock(mutex);
    held = exchange;
    changed.notify_all();
  });
  {
    HttpConnection connection(server_->port());
    connection.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    std::unique_lock<std::mutex> lock(mutex);
    ASSERT_TRUE(changed.wait_for(lock, std::chrono::seconds(10), [&] { return held != nullptr; }));
  }
  std::unique_lock<std::mutex> lock(mutex);
  ASSERT_TRUE(changed.wait_for(lock, std::chrono::seconds(10), [&] { return gone; }));
  held->Respond({.status = 200, .headers = {}, .body = "late"});
  held.reset();
}

}  // namespace
}  // namespace loupe::coordinator::http
