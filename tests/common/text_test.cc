#include "common/text.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace loupe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(TextTest, BytesThatAreNoCharacterAreEscaped) {
  EXPECT_EQ(ToUtf8("caf\xe9.png"), "caf\\xe9.png");
  EXPECT_EQ(ToUtf8("café 漢 😀"), "café 漢 😀");
  EXPECT_EQ(ToUtf8("a\xc3"), "a\\xc3");                  // cut off
  EXPECT_EQ(ToUtf8("\xc0\xaf"), "\\xc0\\xaf");           // overlong
  EXPECT_EQ(ToUtf8("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // a surrogate
  EXPECT_EQ(ToUtf8("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");
  EXPECT_EQ(FindNotUtf8("0123456789é\xff"), 12u);
}

TEST(TextTest, LongTextIsCutBetweenCharacters) {
  const std::string message = std::string(4095, 'a') + "é";
  EXPECT_EQ(Shortened(message, 4096), std::string(4093, 'a') + "…");
  EXPECT_EQ(Shortened(message, 4097), message);
  EXPECT_EQ(Shortened("ééé", 6), "ééé");
  EXPECT_EQ(Shortened("éééé", 7), "éé…");
  EXPECT_EQ(Shortened("éééé", 6), "é…");
  EXPECT_EQ(Shortened("ab\xff", 4), "a…");  // four bytes do not hold the escape
  EXPECT_EQ(Shortened("abcd", 2), "");
}

TEST(TextTest, WhatTerminalsObeyIsEscaped) {
  EXPECT_EQ(Printable("\x1b[31mred\x1b]0;title\a"), "\\x1b[31mred\\x1b]0;title\\x07");
  EXPECT_EQ(Printable("a\xc2\x9b"
                      "1A"),
            "a\\u009b1A");
  EXPECT_EQ(Printable("user\u202etxt.exe\u2066\u200f\u061c"), "user\\u202etxt.exe\\u2066\\u200f\\u061c");
  EXPECT_EQ(Printable("one\ntwo\tthree\rfour"), "one\\ntwo\\tthree\\rfour");
  EXPECT_EQ(Printable("one\r\ntwo\tthree\rfour", LineBreaks::kKept), "one\ntwo\tthree\\rfour");
  EXPECT_EQ(Printable(std::string_view("\0\x7f\u2028\ufeff\u200b", 11)), "\\x00\\x7f\\u2028\\ufeff\\u200b");
  EXPECT_EQ(Printable("👩\u200d🔬 ü ≥ −1"), "👩\u200d🔬 ü ≥ −1");  // joiners are part of emoji
}

TEST(TextTest, JsonKeepsItsMeaning) {
  EXPECT_EQ(PrintableJson("{\n \"a\": \"x\u202ey\x7f\"}"), "{\n \"a\": \"x\\u202ey\\u007f\"}");
}

TEST(TextTest, FormulasBecomeTextInTables) {
  EXPECT_EQ(CsvField("=1+1"), "'=1+1");
  EXPECT_EQ(CsvField("-act"), "'-act");
  EXPECT_EQ(CsvField("@a,b"), "\"'@a,b\"");
  EXPECT_EQ(CsvField("\t=1"), "\"'\t=1\"");
  EXPECT_EQ(CsvField("＝1"), "'＝1");
  EXPECT_EQ(CsvField("+cmd|' /C calc'!A0"), "'+cmd|' /C calc'!A0");
  for (const std::string plain : {"-1.5", "+1", "-1e-4", "1E+05", "-", "+", "=", "a=b", "SA_in", ""})
    EXPECT_EQ(CsvField(plain), plain);
  EXPECT_EQ(CsvField("a\"b;c"), "\"a\"\"b;c\"");
  EXPECT_EQ(CsvField("two\r\nlines\x1b"), "\"two\nlines\\x1b\"");
}

TEST(TokenTest, BlanksAndMarksAroundItAreDropped) {
  for (const std::string text : {"secret", "secret\n", "\xef\xbb\xbfsecret\r\n", "\t secret \t\n", "\n\nsecret\nmore",
                                 "secret\xc2\xa0\n", "\xe2\x80\x8bsecret", "secret\rmore"}) {
    const auto token = TokenIn(text, "t");
    ASSERT_TRUE(token.ok()) << token.status();
    EXPECT_EQ(*token, "secret");
  }
}

TEST(TokenTest, OthersAreRefusedAndNeverShown) {
  const std::string utf16("\xff\xfes\0e\0c\0r\0e\0t\0", 14);
  for (const std::string& text :
       {std::string("“secret”"), std::string("sec ret"), std::string("sec\tret"), std::string("sec\xe9ret"),
        std::string("secrét"), std::string("\"secret\""), std::string("sec\x1bret"), std::string("sec\x7fret"),
        std::string(""), std::string(" \r\n"), std::string("secr\0et", 7), utf16}) {
    const auto token = TokenIn(text, "file 't'");
    ASSERT_FALSE(token.ok()) << text;
    EXPECT_THAT(token.status().message(), AllOf(HasSubstr("file 't': "), Not(HasSubstr("sec")), Not(HasSubstr("ret"))));
  }
}

}  // namespace
}  // namespace loupe
