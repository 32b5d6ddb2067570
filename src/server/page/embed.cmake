# cmake -DIN=page.html -DOUT=page_html.cc -P embed.cmake: the file as bytes of a C++ source.
file(READ ${IN} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "\\\\x\\1" bytes "${hex}")
string(LENGTH "${hex}" n_digits)
math(EXPR n_bytes "${n_digits} / 2")
file(WRITE ${OUT} "#include \"server/page_html.h\"\n\nnamespace nereid::server {\n\n"
  "const std::string_view kPageHtml(\"${bytes}\", ${n_bytes});\n\n}  // namespace nereid::server\n")
