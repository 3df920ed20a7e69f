// Hostile and damaged .pth files, made by hand. (What torch.save itself writes: tests/parity/checkpoints_test.cc.)
#include "worker/io/torch_checkpoint.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_folder.h"

namespace loupe::worker::io {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using namespace std::string_literals;

// Opcodes by their names in Python's pickletools.
const std::string kProto2 = "\x80\x02";
std::string Text(const std::string& text) {  // BINUNICODE, of less than 256 bytes
  return "X"s + static_cast<char>(text.size()) + "\0\0\0"s + text;
}
// os.system as Python pickles it on POSIX, called with one text.
std::string Evil(const std::string& command) { return kProto2 + "cposix\nsystem\n" + Text(command) + "\x85R."; }

// Magic number, version and system as torch.save's older form has them before its pickle.
std::string Header() {
  return kProto2 + "\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19." + kProto2 + "M\xe9\x03." + kProto2 + "}(" +
         Text("little_endian") + "\x88u.";
}

class TorchCheckpointTest : public ::testing::Test {
 protected:
  std::string ErrorOf(const std::string& bytes) {
    const std::string path = folder_ / "weights.pth";
    std::ofstream(path, std::ios::binary) << bytes;
    const auto checkpoint = TorchCheckpoint::Open(path);
    if (checkpoint.ok()) return "";
    EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr(path));
    return std::string(checkpoint.status().message());
  }

  const testing::TempFolder folder_;
};

TEST_F(TorchCheckpointTest, APickleThatWouldCallAnythingElseIsRefusedByNameAndNothingRuns) {
  const fs::path marker = folder_ / "marker";
  const std::string command = "touch " + marker.string();
  EXPECT_THAT(ErrorOf(Evil(command)), HasSubstr("it wants to call 'posix.system', which weights do not need; refused"));
  EXPECT_THAT(ErrorOf(Header() + Evil(command)), HasSubstr("'posix.system'"));
  // Protocol 4 names it by STACK_GLOBAL; protocols 0 and 1 by INST and OBJ, which are opcodes of no use to weights.
  EXPECT_THAT(ErrorOf("\x80\x04\x8c\x05posix\x8c\x06system\x93" + Text(command) + "\x85R."),
              HasSubstr("'posix.system'"));
  EXPECT_THAT(ErrorOf("(" + Text(command) + "iposix\nsystem\n."), HasSubstr("opcode 0x69"));
  EXPECT_THAT(ErrorOf(kProto2 + "(cposix\nsystem\n" + Text(command) + "o."), HasSubstr("opcode 0x6f"));
  EXPECT_THAT(ErrorOf(kProto2 + "cposix\nsystem\n" + Text(command) + "\x85\x81."),
              HasSubstr("it wants to make a 'posix.system', which weights do not need; refused"));
  // A set is made of a list alone.
  EXPECT_THAT(ErrorOf(kProto2 + "c__builtin__\nset\n" + Text(command) + "\x85R."), HasSubstr("'__builtin__.set'"));
  // Attributes set on a thing that is no dictionary.
  EXPECT_THAT(ErrorOf(kProto2 + "cposix\nsystem\n}b."), HasSubstr("wants to set an object's attributes"));
  EXPECT_FALSE(fs::exists(marker));
}

TEST_F(TorchCheckpointTest, OtherFilesAreToldApart) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("cut off"));
  EXPECT_THAT(ErrorOf("<!DOCTYPE html><html>404"), HasSubstr("not weights that torch.save wrote"));
  EXPECT_THAT(ErrorOf("PK\3\4 and no directory"), HasSubstr("cut off"));
  EXPECT_THAT(ErrorOf(kProto2 + "N." + kProto2 + "N." + kProto2 + "N."),
              HasSubstr("does not begin as torch.save's files do"));
  EXPECT_THAT(ErrorOf(Header() + kProto2 + "]." + kProto2 + "]."), HasSubstr("expected a dictionary of tensors"));
  EXPECT_THAT(ErrorOf(Header() + kProto2 + "}" + Text("epoch") + "K\x05s." + kProto2 + "]."),
              HasSubstr("entry 'epoch' is no tensor"));
  std::string big_endian = Header();
  big_endian[big_endian.size() - 3] = '\x89';  // NEWFALSE
  EXPECT_THAT(ErrorOf(big_endian), HasSubstr("big-endian"));
  EXPECT_EQ(TorchCheckpoint::Open(folder_ / "none.pth").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(TorchCheckpointTest, NestingAndLengthOfAHostilePickleCostLittle) {
  // A million tuples one in another: freeing them may not recurse.
  const std::string nested = Header() + kProto2 + "N" + std::string(1'000'000, '\x85') + "." + kProto2 + "].";
  EXPECT_THAT(ErrorOf(nested), HasSubstr("expected a dictionary"));
  EXPECT_THAT(ErrorOf(kProto2 + std::string(5'000'000, 'N') + "."), HasSubstr("more steps than any weights need"));
  // A list that holds itself.
  EXPECT_THAT(ErrorOf(Header() + kProto2 + "]q\1h\1a." + kProto2 + "]."), HasSubstr("expected a dictionary"));
  EXPECT_THAT(ErrorOf(kProto2 + "X\xff\xff\xff\xff."), HasSubstr("cut off"));
}

TEST_F(TorchCheckpointTest, AStackThatRunsEmptyIsAnError) {
  for (const char* code : {".", "R", "s", "a", "u", "e", "t", "\x85", "\x87", "Q", "b", "q\1", "h\1", "(."}) {
    EXPECT_NE(ErrorOf(kProto2 + code), "") << code;
  }
}

}  // namespace
}  // namespace loupe::worker::io
