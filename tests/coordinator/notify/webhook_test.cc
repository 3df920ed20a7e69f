#include "coordinator/notify/webhook.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "common/http_post.h"
#include "common/private_file.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator::notify {
namespace {

using ::testing::HasSubstr;

class WebhookTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::vector<Webhook>> Read(const std::string& text) {
    EXPECT_TRUE(WritePrivateFile(path_, text).ok());
    return ReadWebhooks(path_);
  }
  const testing::TempFolder folder_;
  const std::string path_ = folder_ / "webhooks.json";
};

TEST_F(WebhookTest, FileIsReadWhole) {
  const auto webhooks = Read(R"([
    {"name": "team", "url": "https://hooks.example.org/a?b=1#c", "secret": "sixteen-letters!"},
    {"name": "here", "url": "http://[::1]:8080", "secret": "sixteen-letters!", "events": ["trial.failed"],
     "format": "slack", "allow_private": true}])");
  ASSERT_TRUE(webhooks.ok()) << webhooks.status();
  const Webhook& team = webhooks->at(0);
  EXPECT_TRUE(team.tls);
  EXPECT_EQ(team.host, "hooks.example.org");
  EXPECT_EQ(team.port, 443);
  EXPECT_EQ(team.target, "/a?b=1");
  EXPECT_TRUE(team.Wants("worker.lost"));
  EXPECT_FALSE(team.allow_private);
  const Webhook& here = webhooks->at(1);
  EXPECT_EQ(here.host, "::1");
  EXPECT_EQ(here.port, 8080);
  EXPECT_EQ(here.target, "/");
  EXPECT_FALSE(here.Wants("worker.lost"));
  EXPECT_TRUE(here.Wants("trial.failed"));
}

TEST_F(WebhookTest, MailIsAMessageForSendmail) {
  const auto webhooks = Read(R"([
    {"name": "ops", "email": ["ops@example.org", "b@example.org"], "from": "loupe@example.org"}])");
  ASSERT_TRUE(webhooks.ok()) << webhooks.status();
  const Notification notification{.id = "0a",
                                  .event = "trial.failed",
                                  .time = absl::FromUnixSeconds(1'800'000'000),
                                  .sweep = "sweeps/cats",
                                  .trial = "sweeps/cats/trials/3",
                                  .worker = "",
                                  .message = "Trial 3 failed: \nBcc: x@example.org\n\n.\né"};
  // RFC 5322: headers, a blank line, the text. Nothing of the message gets into the headers, or ends it.
  EXPECT_EQ(BodyOf(webhooks->at(0), notification), R"(To: ops@example.org,
 b@example.org
From: loupe@example.org
Subject: [loupe] trial.failed (sweeps/cats/trials/3)
Date: Fri, 15 Jan 2027 08:00:00 +0000
Message-ID: <0a@loupe.invalid>
Auto-Submitted: auto-generated
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Trial 3 failed: \nBcc: x@example.org\n\n.\né

sweeps/cats
sweeps/cats/trials/3
)");
}

TEST_F(WebhookTest, WrongEntriesAreNamed) {
  const std::pair<const char*, const char*> kWrong[] = {
      {R"({})", "list"},
      {R"([7])", "object"},
      {R"([{"url": "http://a/", "secret": "sixteen-letters!"}])", "name"},
      {R"([{"name": "a", "url": "ftp://a/", "secret": "sixteen-letters!"}])", "url"},
      {R"([{"name": "a", "url": "http://user:pw@a/", "secret": "sixteen-letters!"}])", "url"},
      {R"([{"name": "a", "url": "http://a:99999/", "secret": "sixteen-letters!"}])", "url"},
      {R"([{"name": "a", "url": "http://a\r\nX: y/", "secret": "sixteen-letters!"}])", "url"},
      {R"([{"name": "a", "url": "http://a/", "secret": "short"}])", "secret"},
      {R"([{"name": "a", "email": "ops@example.org"}])", "email"},
      {R"([{"name": "a", "email": ["a@b\nBcc: c@d"]}])", "email"},
      {R"([{"name": "a", "email": ["a@b,c@d"]}])", "email"},
      {R"([{"name": "a", "email": ["a@b"], "from": "-f"}])", "from"},
      {R"([{"name": "a", "email": ["a@b"], "url": "http://a/"}])", "url"},
      {R"([{"name": "a", "url": "http://a/", "secret": "sixteen-letters!", "events": ["all"]}])", "events"},
      {R"([{"name": "a", "url": "http://a/", "secret": "sixteen-letters!", "evnts": []}])", "evnts"},
      {R"([{"name": "a", "url": "http://a/", "secret": "sixteen-letters!"},
           {"name": "a", "url": "http://a/", "secret": "sixteen-letters!"}])",
       "twice"}};
  for (const auto& [text, word] : kWrong) {
    const auto webhooks = Read(text);
    EXPECT_TRUE(absl::IsInvalidArgument(webhooks.status())) << text;
    EXPECT_THAT(std::string(webhooks.status().message()), HasSubstr(word)) << text;
  }
}

TEST_F(WebhookTest, SecretsAreForTheUserAlone) {
  ASSERT_TRUE(Read("[]").ok());
  ASSERT_EQ(::chmod(path_.c_str(), 0644), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(ReadWebhooks(path_).status()));
  EXPECT_TRUE(ReadWebhooks(folder_ / "none.json")->empty());
}

// Python: hmac.new(b"sixteen-letters!", b'1000000000.{"a":1}', hashlib.sha256).hexdigest()
TEST_F(WebhookTest, SignatureIsHmacOfTimeAndBody) {
  EXPECT_EQ(SignatureOf("sixteen-letters!", absl::FromUnixSeconds(1000000000), R"({"a":1})"),
            "t=1000000000,v1=a79779c66e4d5008f1b16d847bed15529f852ac19bceec459b5644503989f117");
}

TEST_F(WebhookTest, SlackGetsOneSentence) {
  const Notification notification{.id = "i",
                                  .event = "sweep.paused",
                                  .time = absl::UnixEpoch(),
                                  .sweep = "sweeps/a",
                                  .trial = "",
                                  .worker = "",
                                  .message = "Sweep 'a' is \"paused\""};
  Webhook webhook;
  const auto json = nlohmann::json::parse(BodyOf(webhook, notification));
  EXPECT_EQ(json["event"], "sweep.paused");
  EXPECT_EQ(json["time"], "1970-01-01T00:00:00+00:00");
  EXPECT_EQ(json["message"], "Sweep 'a' is \"paused\"");
  webhook.slack = true;
  EXPECT_EQ(BodyOf(webhook, notification), R"({"text":"Sweep 'a' is \"paused\""})");
}

// IANA's registries of special-purpose addresses.
TEST(PublicAddressTest, OnlyWhatAnybodyReaches) {
  for (const char* address : {"127.0.0.1",
                              "10.1.2.3",
                              "172.16.0.1",
                              "172.31.255.255",
                              "192.168.1.1",
                              "169.254.169.254",
                              "100.64.0.1",
                              "0.0.0.0",
                              "224.0.0.1",
                              "255.255.255.255",
                              "198.18.0.1",
                              "192.0.2.1",
                              "::1",
                              "::",
                              "fe80::1",
                              "fd00::1",
                              "ff02::1",
                              "::ffff:127.0.0.1",
                              "::ffff:10.0.0.1",
                              "2001:db8::1",
                              "2002:7f00:1::",
                              "2001:0:1::1",
                              "no address"}) {
    EXPECT_FALSE(IsPublicAddress(address)) << address;
  }
  for (const char* address :
       {"93.184.216.34", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8"}) {
    EXPECT_TRUE(IsPublicAddress(address)) << address;
  }
}

}  // namespace
}  // namespace loupe::coordinator::notify
