# cmake -DIN=file.lua -DOUT=file.c -DNAME=name -P embed.cmake
# A Lua file as the C array kt_lua_NAME (not terminated) and its length kt_lua_NAME_len.
file(READ ${IN} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)"
       "\\1\n" bytes "${bytes}")
file(WRITE ${OUT} "#include <stddef.h>\nextern const unsigned char kt_lua_${NAME}[];\nextern const size_t kt_lua_${NAME}_len;\n"
     "const unsigned char kt_lua_${NAME}[] = {${bytes}};\nconst size_t kt_lua_${NAME}_len = sizeof kt_lua_${NAME};\n")
