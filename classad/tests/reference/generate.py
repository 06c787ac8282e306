#!/usr/bin/env python3
"""Records what HTCondor's own ClassAd library answers to many expressions.

Run it where the library is installed (Debian: package `condor`, which brings the Python module `classad`):

    TZ=UTC python3 generate.py OUTPUT_FOLDER

The daemons switch the library to the dialect of old ClassAds (`MY`, `CurrentTime`, names looked up in both ads of a
match); the Python module does not, so this script does it.

It writes `evaluate.tsv`, `match.tsv`, `print.tsv` and `old.tsv`. The test `tests/it/reference.rs` compares this crate
with them, so that no HTCondor is needed to run the tests. Fields are separated by tabs; in a field `\\\\`, `\\t`, `\\n`
and `\\r` are escapes. The first line of each file is a comment with the version that answered.

A result is written in a canonical form that does not depend on how a program prints values:

    undefined   error   failure (the library gave up)   unparsable
    boolean:true   integer:5   real:2.500000000000000E+00   string:"text as JSON"
    abstime:2020-01-01T00:00:00-00:00   reltime:5.0   list:[integer:1,...]   ad:{a=integer:1,...}
"""

import ctypes
import itertools
import json
import os
import sys

# importing htcondor registers the functions that the daemons add to the library
os.environ.setdefault("CONDOR_CONFIG", "/dev/null")
import htcondor  # noqa: E402,F401
import classad  # noqa: E402

LIBRARY = ctypes.CDLL(f"libclassad.so.{classad.version()}")
LIBRARY._ZN7classad22SetOldClassAdSemanticsEb(ctypes.c_bool(True))

# ---------------------------------------------------------------- contexts

CONTEXTS = {
    "-": "[ ]",
    "job": """[
        Cpus = 4; Memory = 2048; Name = "slot1@host"; Load = 0.25; On = true; Nothing = undefined; Bad = error;
        Sum = Cpus + Memory; Chain = Sum * 2; Circle = Circle + 1; Ping = Pong; Pong = Ping;
        Sizes = { 1, 2, Cpus }; Words = "a, b,c"; Inner = [ x = 1; y = Cpus; z = x + 1; Cpus = 8 ];
        Deep = [ a = [ b = [ c = Memory; Memory = 7 ] ] ]; Ads = { [ v = 1; w = "p" ], [ v = 2; w = "q" ], [ w = "r" ] };
        Test = v >= 2; Req = TARGET.Disk > 10 && Opsys == "LINUX" && Memory > 5; 'odd name' = 3;
        Env = "A=1 B='x y'"; is_it = "yes"; Text = "Cpus + 1";
        Many = B + TARGET.A + MY.Nada + Inner.zip + f(C,a ?: Nothing) + { X }[Y] + [ p = q; r = Cpus ].p;
        Wrong = Foo + Bad.x
    ]""",
}

# ---------------------------------------------------------------- expressions

VALUES = [
    "undefined", "error", "true", "false", "0", "3", "-7", "2.5", "0.0", '"abc"', '"ABC"', '""',
    'absTime("2020-01-01T00:00:00Z")', "relTime(90)", "{ 1,2 }", "[ a = 1 ]",
]
BINARY = ["||", "&&", "|", "^", "&", "==", "!=", "=?=", "=!=", "<", "<=", ">", ">=", "<<", ">>", ">>>", "+", "-", "*",
          "/", "%"]

FUNCTIONS = {
    # name: the counts of arguments to try in all combinations
    "isUndefined": [0, 1, 2], "isError": [0, 1, 2], "isString": [0, 1], "isInteger": [0, 1], "isReal": [0, 1],
    "isList": [0, 1], "isClassAd": [0, 1], "isBoolean": [0, 1], "isAbsTime": [0, 1], "isRelTime": [0, 1],
    "member": [0, 1, 2, 3], "identicalMember": [0, 1, 2, 3], "size": [0, 1, 2], "sum": [0, 1, 2], "avg": [0, 1, 2],
    "min": [0, 1, 2], "max": [0, 1, 2], "anyCompare": [0, 2], "allCompare": [0, 2], "timeZoneOffset": [0, 1],
    "getYear": [0, 1], "getMonth": [0, 1], "getDayOfYear": [0, 1], "getDayOfMonth": [0, 1], "getDayOfWeek": [0, 1],
    "getDays": [0, 1], "getHours": [0, 1], "getMinutes": [0, 1], "getSeconds": [0, 1], "splitTime": [0, 1],
    "interval": [0, 1], "strcat": [0, 1, 2, 3], "join": [0, 1, 2, 3], "toUpper": [0, 1, 2], "toLower": [0, 1],
    "substr": [0, 1, 2, 3], "strcmp": [0, 1, 2], "stricmp": [0, 1, 2], "versioncmp": [0, 1, 2], "versionLE": [1, 2],
    "versionLT": [2], "versionGE": [2], "versionGT": [2], "versionEQ": [2], "version_in_range": [2, 3],
    "regexp": [0, 1, 2, 3], "regexpMember": [1, 2, 3], "regexps": [2, 3], "replace": [3], "replaceAll": [3],
    "int": [0, 1, 2], "real": [0, 1, 2], "string": [0, 1, 2], "bool": [0, 1, 2], "absTime": [1, 2], "relTime": [0, 1, 2],
    "unparse": [0, 1], "unresolved": [0, 1], "floor": [0, 1], "ceil": [1], "ceiling": [0, 1], "round": [0, 1],
    "pow": [1, 2], "quantize": [1, 2], "ifThenElse": [0, 1, 2, 3], "eval": [0, 1, 2], "debug": [0, 1],
    "stringListsIntersect": [1, 2, 3], "envV1ToV2": [0, 1], "mergeEnvironment": [0, 1, 2], "listToArgs": [0, 1, 2],
    "argsToList": [0, 1, 2], "stringListSize": [0, 1, 2], "stringListSum": [0, 1, 2], "stringListAvg": [1, 2],
    "stringListMin": [1, 2], "stringListMax": [1, 2], "stringListMember": [1, 2, 3], "stringListIMember": [2, 3],
    "stringListSubsetMatch": [2, 3], "stringListISubsetMatch": [2, 3], "stringList_regexpMember": [1, 2, 3],
    "userHome": [1, 2], "userMap": [1, 2, 3], "splitUserName": [0, 1], "splitSlotName": [0, 1], "split": [0, 1, 2],
    "evalInEachContext": [0, 1, 2], "countMatches": [0, 1, 2], "noSuchFunction": [0, 1],
}
ONE = VALUES + ['"3"', '"2.5x"', '"true"', '"a,b"', "{ }", '{ "a",undefined,"b" }', "{ 1.5,2 }", "{ true,3 }", "-2.5",
                "3.5", "relTime(-93784)", "relTime(2.5)"]
TWO = ["undefined", "error", "true", "3", "2.5", '"a,b"', '"a"', '{ 1,"a" }']
THREE = ["undefined", "2", '"a"', '{ "a" }']

LITERALS = r"""
1
010
0x1F
00
-0
0.5
.5
-.5
1.
1e3
1E-3
1.5e+300
1e400
1K
1 K
12345678901234567890
9223372036854775807
-9223372036854775808
-9223372036854775809
- 5
--5
- -5
3-5
3 -5
3- -5
true
TRUE
False
UNDEFINED
Error
"a\"b"
"a\\b"
"a\nb\tc"
"a\101b"
"a\0b"
"a\'b\?c\q"
"one" "two"
"unterminated
'quoted'
'quoted name' + 1
1 // comment
1 /* comment */ + 2
1 /* no end
( 1 )
((1))
(1
1)
1 2
1 +
+ 1
* 1
!
!!true
~5
~~5
-true
-"a"
+true
+2.5
+"a"
!0
!2
!0.0
!"a"
!undefined
!error
~2.5
{ }
{ 1 }
{ 1, }
{ ,1 }
{1,2,{3}}
[ ]
[ a = 1 ]
[ a = 1; ]
[ ; a = 1;; b = 2 ]
[ a = 1 b = 2 ]
[ a == 1 ]
[ a = 1; A = 2 ].a
[ true = 1 ]
[ 'true' = 1 ].'true'
a.b
a.5
5 .a
.a
"abc".x
{1,2}.x
f
f()
f(1)
f(1,)
f(,1)
f(1;2)
1 ? 2 : 3
0 ? 2 : 3
true ? 2
true ? 2 :
true ?: 3
undefined ?: 3
error ?: 3
false ?: 3
0 ?: 3
"" ?: 3
undefined ? : 3
undefined ?: undefined ?: 4
true ? false ? 1 : 2 : 3
false ? 1 : false ? 2 : 3
undefined ? 1 : 2
error ? 1 : 2
"a" ? 1 : 2
2.5 ? 1 : 2
{ 1 } ? 1 : 2
1 || 0 && 0
(1 || 0) && 0
1 + 2 * 3
1 - 2 - 3
8 / 4 / 2
7 % 4 * 2
1 << 2 + 1
1 < 2 < 3
3 > 2 > 1
1 == 1 == true
1 | 2 ^ 3 & 4
1 & 3 == 3
5 & 6
5 | 6
5 ^ 6
-1 >> 1
-1 >>> 1
-1 >>> 0
-8 >> 2
1 << 63
1 << 64
1 << -1
8 >> -1
-8 >> 70
8 >> 70
8 >>> 65
-8 >>> 65
9223372036854775807 + 1
-9223372036854775807 - 2
9223372036854775807 * 2
(-9223372036854775807 - 1) / -1
(-9223372036854775807 - 1) % -1
-(-9223372036854775807 - 1)
7 / 2
-7 / 2
7 % -3
-7 % 3
7.5 % 2
1 / 0
1 % 0
1.0 / 0.0
-1.0 / 0.0
0.0 / 0.0
1e308 * 10
-1e308 * 10
1e-320
1 / 3.0
0.1 + 0.2
1 + true
true + true
true * 2.5
"a" + "b"
"a" < "B"
"a" == "A"
"a" =?= "A"
"a" =?= "a"
"" < "a"
"a" < "aa"
"10" < "9"
1 == 1.0
1 =?= 1.0
1 =?= 1
1.0 =?= 1.0
true == 1
true =?= 1
undefined == undefined
undefined =?= undefined
error =?= error
error =!= undefined
1 is 1
1 isnt 2
"a" is "A"
real("NaN") == real("NaN")
real("NaN") < 1
real("NaN") =?= real("NaN")
real("INF") > 1
real("-INF") < 1
real("INF") == real("INF")
undefined && false
undefined && true
undefined || true
undefined || false
false && error
true && error
true || error
false || error
error && false
error || true
undefined && error
error && undefined
undefined && undefined
1 && 1
0 || 0
2.5 && true
"a" && true
true && "a"
false && "a"
undefined && "a"
true || "a"
{ 1 } && true
{ 10,20,30 }[0]
{ 10,20,30 }[2]
{ 10,20,30 }[3]
{ 10,20,30 }[-1]
{ 10,20,30 }[1.0]
{ 10,20,30 }[true]
{ 10,20,30 }["a"]
{ 10,20,30 }[undefined]
{ { 1,2 },3 }[0][1]
[ a = 5 ]["a"]
[ a = 5 ]["A"]
[ a = 5 ]["b"]
[ a = 5 ][0]
[ a = b; b = 6 ]["a"]
"abc"[0]
undefined[0]
error[0]
[ a = 1; b = a + 1 ].b
[ a = 1; b = [ c = a ] ].b.c
[ a = 1; b = [ c = parent.a; a = 2 ] ].b.c
[ a = 1; b = [ c = .a; a = 2 ] ].b.c
[ a = 1; b = [ c = self.a; a = 2 ] ].b.c
[ a = 1; b = [ c = toplevel.a; a = 2 ] ].b.c
[ a = 1; b = [ c = root.a; a = 2 ] ].b.c
[ a = a ].a
[ a = b; b = c; c = a ].a
[ a = { b }; b = 7 ].a[0]
{ [ v = 1 ],[ v = 2 ] }.v
{ [ v = 1 ],3 }.v
{ [ v = 1 ],undefined }.v
{ [ v = 1 ],{ [ v = 2 ] } }.v
parent
self
toplevel
root
absTime("2020-02-30T00:00:00Z")
absTime("2020-01-01")
absTime("2020")
absTime("20200101T010203Z")
absTime("2020-01-01T00:00:00+01:00")
absTime("2020-01-01T00:00:00-0130")
absTime("2020-01-01T00:00:00+05:30")
absTime("1969-12-31T23:59:59Z")
absTime("junk")
absTime("2020-01-01T00:00:00 and 5 more")
relTime("5")
relTime("1:02")
relTime("1:02:03")
relTime("1+02:03:04")
relTime("-1+02:03:04")
relTime("1d2h3m4s")
relTime("2h")
relTime("0.5")
relTime("1:00.25")
relTime("junk")
relTime("")
relTime("5 5")
relTime(90061.5)
isRelTime(relTime("5"))
isRelTime(relTime(5))
string(relTime("1:02"))
absTime(strcat("2020-01-01","T00:00:00Z"))
relTime(strcat("1",":30"))
absTime(0)
absTime(1577836800)
absTime(1577836800, 3600)
absTime(1577836800.9, -3600)
absTime(5000000000)
absTime(relTime(60))
absTime("2020-01-01T00:00:00Z") + relTime(86400)
absTime("2020-01-01T00:00:00Z") - absTime("2019-12-31T00:00:00Z")
absTime("2020-01-01T00:00:00Z") - relTime(60)
absTime("2020-01-01T00:00:00Z") + 5
absTime("2020-01-01T00:00:00Z") == absTime("2020-01-01T01:00:00+01:00")
absTime("2020-01-01T00:00:00Z") =?= absTime("2020-01-01T01:00:00+01:00")
absTime("2020-01-01T00:00:00Z") < absTime("2020-01-02T00:00:00Z")
relTime(60) * 2
relTime(60) * 2.5
2 * relTime(60)
relTime(60) / 2
relTime(60) / 0
2 / relTime(60)
relTime(60) + relTime(60)
relTime(60) - relTime(120)
relTime(60) == 60
relTime(60) < relTime(120)
relTime(60) > relTime(120) || true
-relTime(60)
+relTime(60)
"""

CALLS = r"""
random() >= 0.0 && random() < 1.0
isInteger(random(5)) && random(5) < 5
isReal(random(2.5)) && random(2.5) < 2.5
random(0)
random(-1)
random("a")
random(1,2)
isInteger(time())
time(1)
isAbsTime(currentTime())
currentTime(1)
isRelTime(dayTime())
isAbsTime(absTime())
isString(formatTime())
size("")
size("abc")
size([ a = 1; b = 2 ])
sum({ })
sum({ 1,2.5 })
sum({ 1,undefined,2 })
sum({ true,true })
sum({ "a" })
sum({ error })
avg({ })
avg({ 1,2 })
avg({ undefined })
avg({ undefined,4 })
min({ })
max({ })
min({ 2,1.5,3 })
max({ 2,1.5,3 })
max({ true,0 })
min({ undefined,5 })
min({ "a" })
member(1,{ 1.0 })
identicalMember(1,{ 1.0 })
member("A",{ "a" })
identicalMember("A",{ "a" })
identicalMember(undefined,{ undefined })
identicalMember(error,{ error })
member(undefined,{ undefined })
member(1,{ error,1 })
member(2,{ error,1 })
member({ 1 },{ { 1 } })
anyCompare("<",{ 1,2,3 },2)
anyCompare("<",{ 3 },2)
anyCompare("is",{ undefined },undefined)
anyCompare("isnt",{ 1 },2)
anyCompare("==",{ undefined,2 },2)
anyCompare("==",{ "a",2 },2)
anyCompare("==",{ },2)
anyCompare("=?=",{ 2 },2)
anyCompare(">=",{ 2 },undefined)
allCompare("<",{ 1,2,3 },4)
allCompare("<",{ 1,2,3 },3)
allCompare("==",{ undefined },2)
allCompare("!=",{ 1,3 },2)
allCompare("<=",{ },2)
allCompare(">",{ "a" },2)
allCompare(undefined,{ 1 },2)
allCompare("<",undefined,2)
allCompare("<",3,2)
getYear(absTime("2020-02-29T12:34:56Z"))
getMonth(absTime("2020-02-29T12:34:56Z"))
getDayOfYear(absTime("2020-02-29T12:34:56Z"))
getDayOfMonth(absTime("2020-02-29T12:34:56Z"))
getDayOfWeek(absTime("2020-02-29T12:34:56Z"))
getHours(absTime("2020-02-29T12:34:56Z"))
getMinutes(absTime("2020-02-29T12:34:56Z"))
getSeconds(absTime("2020-02-29T12:34:56Z"))
getHours(absTime("2020-02-29T12:34:56+03:00"))
getDays(relTime(273906))
getHours(relTime(273906))
getMinutes(relTime(273906))
getSeconds(relTime(273906))
getDays(relTime(-273906))
getHours(relTime(-273906))
splitTime(0)
splitTime(1577836800)
splitTime(2.5)
splitTime(absTime("2020-02-29T12:34:56+03:00"))
splitTime(relTime(273906))
splitTime(relTime(-273906))
splitTime(relTime(-306))
splitTime(relTime(0.5))
splitTime(splitTime(0))
formatTime(1577836800)
formatTime(1577836800,"%Y-%m-%d %H:%M:%S %j %U %w %a %A %b %B %y %p %I %M %%")
formatTime(1577836800,"%c|%D|%e|%F|%g|%G|%h|%k|%l|%n|%P|%r|%R|%t|%T|%u|%V|%W|%x|%X|%C")
formatTime(1600000000,"%U %W %V %G %u %j")
formatTime(1609459200,"%U %W %V %G %u %j %g")
formatTime(1577836800,"")
formatTime(1577836800,3)
formatTime(1577836800,undefined)
formatTime(1577836800,"%z")
formatTime(1577836800,"%Z")
formatTime(absTime("2020-02-29T12:34:56+03:00"),"%H:%M")
formatTime(relTime(60))
formatTime(splitTime(1577836800),"%Y")
formatTime([ Year = 2020; Month = 5; Day = 17 ],"%F %a %j")
formatTime("a")
formatTime(undefined)
formatTime(1,2,3)
interval(0)
interval(59)
interval(60)
interval(3600)
interval(86400)
interval(90061)
interval(-90061)
interval(-61)
interval(12.9)
interval("100")
strcat("a",1,2.5,true)
strcat("a",{ 1,2 })
strcat("a",[ x = 1 ])
strcat("a",absTime(0))
strcat("a",relTime(90))
strcat("a",undefined,"b")
strcat("a",error,"b")
join(",","a","b","c")
join(",",{ "a","b" })
join({ "a","b" })
join("")
join(",")
join(",",undefined,"b")
join(",",{ undefined })
join(",",{ undefined,"b",3 })
join(",",{ })
join(", ",1,2.5,true)
join(",","","a","","b")
join(1,2,3)
join("-",{ "a",error })
join(undefined,"a","b")
toUpper("abcXYZ1")
toLower("abcXYZ1")
toUpper(true)
toLower(1.5)
substr("abcdef",2)
substr("abcdef",-2)
substr("abcdef",10)
substr("abcdef",-10)
substr("abcdef",1,2)
substr("abcdef",1,-2)
substr("abcdef",1,0)
substr("abcdef",1,100)
substr("abcdef",1,-100)
substr("abcdef",-3,2)
substr("abcdef",0,-1)
substr("",0)
substr("abc",6,2)
strcmp("a","b")
strcmp("b","a")
strcmp("a","A")
stricmp("a","A")
stricmp("abc","ABD")
strcmp(1,"1")
strcmp(10,9)
strcmp("a","ab")
split("a b,c")
split("a,,b")
split("a, ,b")
split(" a  b ")
split(",a,")
split("a:b","::")
split("a::b",":")
split("a b","")
split("")
split("abc","b")
split("a-b_c","-_")
split("a-_c","-_")
splitUserName("user@domain")
splitUserName("user")
splitUserName("a@b@c")
splitUserName("@b")
splitSlotName("slot1@host")
splitSlotName("host")
splitSlotName("slot1_2@a@b")
versioncmp("1.2","1.10")
versioncmp("1.10","1.2")
versioncmp("1.2","1.2")
versioncmp("a","b")
versioncmp("1.02","1.2")
versioncmp("1.0","1.00")
versioncmp("9","10")
versioncmp("10a","10b")
versioncmp("x10","x9y")
versioncmp("","1")
versioncmp("000","00")
versioncmp("00","01")
versioncmp("09","0")
versioncmp(1,2)
versionLT("23.9.6","23.10.0")
versionLE("23.9.6","23.9.6")
versionGT("23.9.6","9.0")
versionGE("8.9.13","23.0")
versionEQ("1.0","1.0")
versionlt("1","2")
version_in_range("23.9.6","23.0","24.0")
version_in_range("25","23.0","24.0")
version_in_range(5,1,10)
version_in_range(undefined,"1","2")
regexp("a.c","xabcx")
regexp("A","a")
regexp("A","a","i")
regexp("^b","a\nb")
regexp("^b","a\nb","m")
regexp("a.b","a\nb")
regexp("a.b","a\nb","s")
regexp("a b","ab","x")
regexp("a$","a")
regexp("(","a")
regexp("[","a")
regexp("","a")
regexp("","")
regexp("^(\\d+)\\.(\\d+)$","12.34")
regexp("\\bfoo\\b","a foo b")
regexp("[[:alpha:]]+","123")
regexp("[^a-c]","abc")
regexp("a{2,3}","caaat")
regexp("a{2","a{2")
regexp("a|b","xb")
regexp("(?i)ABC","abc")
regexp("(?:x|y)z","yz")
regexp("\\w+@\\w+","me@home")
regexp("\\x41","A")
regexp("[.]","a")
regexp("[a-]","-")
regexp("[]a]","]")
regexp("[a[b]","[")
regexp("\\.","a")
regexp("\\/","/")
regexp("\\<a\\>","<a>")
regexp("a#b","a#b","x")
regexp("[a b]"," ","x")
regexp("a","a","q")
regexp("a",1)
regexp(1,"a")
regexp("a","a",1)
regexp("a","a",undefined)
regexp("a","a",error)
regexpMember("b",{ "a","b" })
regexpMember("c",{ "a","b" })
regexpMember("c",{ "a",undefined })
regexpMember("a",{ "a",undefined })
regexpMember("a",{ 1 })
regexpMember("a",{ })
regexpMember("A",{ "a" },"i")
regexpMember("(",{ "a" })
regexps("a(.)c","xabcx","<\\1>")
regexps("a(.)c","xabcx","<\\0>")
regexps("a(.)c","xabcx","<\\2>")
regexps("a(.)c","zzz","<\\1>")
regexps("a(.)c","xabcx","<\\1>","f")
regexps("a(.)c","abcadc","<\\1>","g")
regexps("a(.)c","abcadc-","<\\1>","gf")
regexps("A","xax","-","i")
regexps("a","xax","\\a\\\\")
regexps("(a)|(b)","b","<\\1\\2>")
regexps("(a)|(b)","a","<\\1\\2>")
regexps("(","a","b")
replace("b","abcb","X")
replace("z","abc","X")
replace("(b)","abc","[\\1]")
replace("B","abc","X","i")
replace("^","abc","X")
replace("$","abc","X")
replaceAll("b","abcb","X")
replaceAll("z","abc","X")
replaceAll(" ","a b c","_")
replaceAll("x*","abc","-")
replaceAll("b*","abc","-")
replaceAll("^","abc","X")
replaceAll("[aeiou]","education","<\\0>")
replaceAll("(\\w)(\\d)","a1b2","\\2\\1")
int("12")
int("12.9")
int("-12.9x")
int(" 7")
int("x7")
int("")
int("0x10")
int("1e3")
int(2.9)
int(-2.9)
int(1e30)
int(-1e30)
int(real("NaN"))
int(absTime(100))
int(relTime(100.9))
int({ 1 })
real("1.5")
real("1.5abc")
real("abc")
real("INF")
real("-INF")
real("inf")
real("infinity")
real("NaN")
real("nan")
real("0x1p4")
real("1e400")
real(".5")
real("5.")
real("+5")
real(absTime(100))
real(relTime(100.9))
string(1)
string(1.5)
string(true)
string("a")
string({ 1,a + 1 })
string([ a = b + 1 ])
string(absTime(0))
string(relTime(90061.5))
string(1e100)
string(-0.0)
string(0.1)
bool("true")
bool("FALSE")
bool("yes")
bool(0)
bool(2.5)
bool(relTime(0))
bool(relTime(0.5))
bool(absTime(0))
bool({ })
floor(2.5)
floor(-2.5)
floor("2.5")
floor(true)
floor(1e30)
ceil(2.5)
ceiling(-2.5)
ceiling("a")
round(2.5)
round(3.5)
round(-2.5)
round(2.4)
round("2.6")
round(relTime(2.6))
pow(2,10)
pow(2,-1)
pow(2.0,3)
pow(2,0.5)
pow(0,0)
pow(-2,3)
pow(-8,0.5)
pow(10,30)
pow("2","3")
pow(true,2)
quantize(3,8)
quantize(9,8)
quantize(8,8)
quantize(0,8)
quantize(-3,8)
quantize(3.5,2)
quantize(3,2.5)
quantize(3,0)
quantize(3,0.0)
quantize(3,-2)
quantize(3,{ 4,8 })
quantize(5,{ 4,8 })
quantize(20,{ 4,8 })
quantize(3,{ })
quantize(3,{ "a" })
quantize(3,{ 2.5,10.5 })
quantize("3",2)
ifThenElse(true,1,error)
ifThenElse(false,error,2)
ifThenElse(undefined,1,2)
ifThenElse(error,1,2)
ifThenElse("a",1,2)
ifThenElse(0.0,1,2)
ifThenElse(7,1,2)
ifThenElse(absTime(0),1,2)
eval("1 + 2")
eval("a.b")
eval("(")
eval("")
eval("1 2")
eval(5)
eval("\"a\"")
eval({ 1 })
debug(1 + 1)
debug(undefined)
stringListSize("a,b c")
stringListSize("a;b","; ")
stringListSize(" , ,a, ")
stringListSize("")
stringListSum("1,2,3")
stringListSum("1.5,2")
stringListSum("1,a")
stringListSum("")
stringListSum("1e2,1")
stringListSum("1x,2")
stringListAvg("1,2")
stringListAvg("1.0,2")
stringListAvg("")
stringListMin("3,1,2")
stringListMin("")
stringListMin("1.5,-2")
stringListMax("3,1,2")
stringListMax("-3,-1")
stringListMax("-3.5,-1")
stringListMax("")
stringListMember("b","a, b,c")
stringListMember("B","a, b,c")
stringListIMember("B","a, b,c")
stringListMember("a b","a b,c")
stringListMember("a b","a b,c",",")
stringListMember("","a,,b")
stringListMember("","")
stringListMember(undefined,"a")
stringListMember("a",undefined)
stringListMember(undefined,undefined)
stringListMember("a","a;b",";")
stringListMember("a","b\ta\n")
stringListSubsetMatch("a,b","c,b,a")
stringListSubsetMatch("a,d","c,b,a")
stringListSubsetMatch("A","a")
stringListISubsetMatch("A,b","a,B")
stringListSubsetMatch("","a")
stringListSubsetMatch(",","a")
stringListSubsetMatch("a","")
stringListSubsetMatch("a:b","b:a",":")
stringListSubsetMatch(undefined,"a")
stringListsIntersect("a,b","b,c")
stringListsIntersect("a,b","c,d")
stringListsIntersect("a b","b")
stringListsIntersect("a:b","b:c",":")
stringListsIntersect("a b:c","b",":")
stringListsIntersect("","")
stringListsIntersect("a","a","")
stringListsIntersect("A","a")
stringList_regexpMember("^b","a,bc")
stringList_regexpMember("^x","a,bc")
stringList_regexpMember("^B","a,bc",",","i")
stringList_regexpMember("^B","a,bc",",","I")
stringList_regexpMember("(","a")
stringList_regexpMember("a","")
envV1ToV2("A=1;B=2")
envV1ToV2("|A=1|B=2")
envV1ToV2("A=1;B=x y;C='q'")
envV1ToV2("")
envV1ToV2("A")
envV1ToV2("=1")
envV1ToV2("A=1\nB=2")
envV1ToV2(" A=1; B=2 ")
envV1ToV2(undefined)
envV1ToV2("B=2;A=1;B=3")
mergeEnvironment("A=1","B=2")
mergeEnvironment("A=1","A=2")
mergeEnvironment("B=1 A='x y'",undefined)
mergeEnvironment()
mergeEnvironment("A")
mergeEnvironment("A='b")
mergeEnvironment("A=''")
mergeEnvironment("A=it''s")
mergeEnvironment("A='it''s'")
mergeEnvironment("A=$$(x)","$$(y)")
mergeEnvironment("=1")
listToArgs({ "a","b c","d'e","" })
listToArgs({ "a","b" },1)
listToArgs({ "a b" },1)
listToArgs({ "" },1)
listToArgs({ "","" },1)
listToArgs({ "a","","b" },1)
listToArgs({ "d'e\"f" },1)
listToArgs({ },2)
listToArgs({ 1 })
listToArgs({ "a" },3)
listToArgs({ "'","''"," '" })
argsToList("a 'b c' d''e")
argsToList("a 'b''c'")
argsToList("a 'b")
argsToList("")
argsToList("  a   b ")
argsToList("''")
argsToList("a'b'c")
argsToList("a 'b c'",1)
argsToList("a",3)
userHome("nobody")
userHome("nobody","/tmp")
userHome(undefined)
userHome(undefined,"/tmp")
userHome(3)
userHome(3,"/tmp")
userHome("a",3)
userHome()
userMap("m","u")
userMap("m","u","p")
userMap("m","u","p","d")
userMap("m","u","p",5)
userMap(undefined,"u")
userMap(error,"u")
userMap(1,"u","p","d")
evalInEachContext(v,{ [ v = 1 ],[ v = 2 ] })
evalInEachContext(v + 1,{ [ v = 1 ],[ w = 2 ],3,undefined })
evalInEachContext(v,{ })
evalInEachContext(v,undefined)
evalInEachContext(v,3)
countMatches(v > 1,{ [ v = 1 ],[ v = 2 ],[ v = 3 ] })
countMatches(v,{ [ v = 1 ],[ v = true ],[ v = "a" ],[ ] })
countMatches(v,undefined)
countMatches(v,3)
countMatches(true,{ [ ],4,undefined })
STRCAT("a","b")
ifthenelse(true,1,2)
ISUNDEFINED(x)
"""

IN_JOB = r"""
Cpus
cpus
CPUS + memory
Sum
Chain
Circle
Ping
Missing
Nothing
Bad
Missing + 1
Missing =?= undefined
isUndefined(Missing)
isError(Bad)
Name
'odd name'
'Cpus'
Sizes
Sizes[2]
size(Sizes)
sum(Sizes)
Inner
Inner.x
Inner.y
Inner.z
Inner.Cpus
Inner.Memory
Inner.nothere
Inner["y"]
Inner["Memory"]
Deep.a.b.c
Deep.a.b.Memory
Deep.a.Memory
Deep.a.b.Cpus
Ads
Ads.v
Ads.w
Ads[0].w
Ads[1].Cpus
.Cpus
.Missing
Cpus.x
Name.x
Missing.x
Bad.x
Sizes.x
toplevel.Cpus
root.Cpus
self.Cpus
parent.Cpus
Inner.parent.Cpus
[ q = Cpus; Cpus = 9 ].q
[ q = .Cpus; Cpus = 9 ].q
[ q = parent.Cpus; Cpus = 9 ].q
{ Cpus,Inner.x }[0]
evalInEachContext(Test,Ads)
evalInEachContext(v,Ads)
evalInEachContext(v > 1,Ads)
evalInEachContext(Cpus,Ads)
countMatches(Test,Ads)
countMatches(v >= 1,Ads)
countMatches(Missing,Ads)
sum(evalInEachContext(v,Ads))
max(Ads.v)
unparse(Sum)
unparse(Req)
unparse(Missing)
unparse(Words)
unparse(Inner.x)
unparse(Cpus + 1)
unresolved(Req)
unresolved(Sum)
unresolved(Missing)
unresolved(Test)
unresolved(Circle)
unresolved(Chain)
unresolved(Req,"opsys")
unresolved(Req,"^disk$")
unresolved(Req,"nothere")
unresolved(Req,"(")
unresolved(Req,3)
eval(Text)
eval("Sum")
eval("Inner.y")
stringListMember("b",Words)
stringListSize(Words)
mergeEnvironment(Env,"C=3")
strcat(Name,":",Cpus)
splitSlotName(Name)
splitSlotName(Name)[1]
ifThenElse(On,Cpus,Memory)
On ? Cpus : Memory
Nothing ?: Cpus
Load * 4
Load < 1 && On
member(4,Sizes)
regexp("^slot[0-9]+@",Name)
isClassAd(Inner)
isList(Ads)
size(Inner)
is_it
Req
MY.Cpus
my.Missing
size(MY)
MY.Inner.x
Inner.MY.x
Inner.MY.Cpus
TARGET
TARGET.Cpus
CurrentTime > 1000
[ q = MY.Cpus; Cpus = 9 ].q
[ q = MY.Memory; Cpus = 9 ].q
unresolved(Many)
unresolved(Wrong)
unresolved(Env)
unresolved(Inner)
unresolved(Ads)
unresolved(Inner.z)
unresolved(Deep)
"""

MATCH_MY = """[ Cpus = 4; Memory = 2048; Name = "job"; Own = 1; UsesTarget = TARGET.Disk; UsesUnscoped = Disk;
Requirements = TARGET.Cpus >= MY.Cpus && Disk > 5; Inner = [ a = MY.Cpus; b = Cpus; c = Disk; Own = 2 ];
Ads = { [ v = 1 ],[ v = 9 ] }; Want = v > Disk / 2; Back = TARGET.Points; Req2 = TARGET.Disk > Missing;
Req3 = TARGET.Nope + TARGET.Points + MY.Nada + Inner.zip + Disk ]"""
MATCH_TARGET = """[ Cpus = 8; Disk = 10; Name = "slot"; Points = TARGET.Own + 1; MyCpus = MY.Cpus; Loose = Own;
Requirements = TARGET.Memory > 1000; Nested = [ p = Disk; q = Own; r = MY.Disk ]; Both = Cpus ]"""
MATCH = r"""
Cpus
MY.Cpus
TARGET.Cpus
my.cpus
Target.Cpus
Disk
MY.Disk
TARGET.Disk
TARGET.Own
Name
TARGET.Name
MY.Name
UsesTarget
UsesUnscoped
TARGET.Points
Points
TARGET.MyCpus
MyCpus
TARGET.Loose
Loose
Back
Requirements
TARGET.Requirements
MY.Requirements && TARGET.Requirements
Inner.a
Inner.b
Inner.c
TARGET.Nested.p
TARGET.Nested.q
TARGET.Nested.r
Both
TARGET.Both
TARGET.Missing
MY.Missing
Missing
isUndefined(TARGET.Missing)
isClassAd(TARGET)
isClassAd(MY)
size(MY) > 5
TARGET.TARGET.Cpus
MY.TARGET.Cpus
TARGET.MY.Cpus
.Cpus
LEFT.Cpus
RIGHT.Cpus
OTHER.Cpus
parent.Cpus
self.Cpus
[ x = TARGET.Disk ].x
[ x = Disk ].x
[ x = MY.x; y = 1 ].x
[ x = MY.y; y = 1 ].x
{ TARGET.Disk }[0]
ifThenElse(TARGET.Cpus > MY.Cpus,"more","less")
countMatches(Want,Ads)
countMatches(MY.Want,MY.Ads)
countMatches(v > 5,Ads)
unresolved(Requirements)
unresolved(Req2)
unresolved(Req3)
eval("TARGET.Disk")
eval("Disk")
CurrentTime > 1000
MY.CurrentTime > 1000
strcat(MY.Name,"-",TARGET.Name)
TARGET["Cpus"]
MY["Cpus"]
unparse(Requirements)
"""

PRINT = r"""
1
-5
- 5
-(5)
1.5
100.0
0.1
-0.0
1e100
1.5e-7
123456789.125
1234567890123456789.0
true
undefined
error
"plain"
"quote\"inside"
"back\\slash"
"tab\tnewline"
'odd name'
'odd name'.'other name'
a
a.b.c
.a
a[1]
{ }
{ 1,2,3 }
{ "a",{ b } }
[ ]
[ x = 1 ]
[ x = 1; y = [ z = "q" ] ]
f()
f(1,"a",b)
a + b * c - d
(a + b) * c
-a
!a
~a
+a
!(a && b)
- -a
a ? b : c
a ?: b
a =?= b
a =!= b
a is b
a isnt b
a == b && c != d || e <= f
a << 1 >> 2 >>> 3
a | b ^ c & d
absTime("2020-01-01T00:00:00Z")
absTime("2020-01-01T00:00:00+05:30")
relTime("1+02:03:04")
relTime("0.5")
relTime("-1:00")
real("INF")
real("x")
strcat("a",MY.b,TARGET.c)
true ? false ? 1 : 2 : 3
x.y[2].z
9223372036854775807
-9223372036854775808
"/Expr(a)/"
"é"
"""

OLD = [
    'A = 1', 'A=1', '  A  =  1  ', 'A = "plain"', 'A = "a\\"b"', 'A = "a\\b"', 'A = "\\S"', 'A = "ends with \\"',
    'A = "a\\\\"', 'A = "a\\\\b"', 'A = "a\\nb"', 'A = "c:\\dir\\file"', 'A = ""', 'A = "\\""', 'A = "\\"\\""',
    'A = { 1,2,"x" }', 'A = [ a = 1; b = "q" ]', 'A = true', 'A = UNDEFINED', 'A = B + 1\nB = 2', 'A = 1\nA = 2',
    'A = "one" "two"', "A = 'odd name'", 'A = 1 +', 'A', 'A = ', '= 1', 'A B = 1', '# comment\nA = 1', '\nA = 1\n\n',
    'A = "x=y"', 'A = B == C', 'A = "\\\\\\""', 'A = "\\\'"', 'A = strcat("a\\b","c")', 'A = 1 // c', 'A = "é"',
    'A = 1.0', 'A = 1E+100', 'A = 010', 'A = f(1;2)',
]

# ---------------------------------------------------------------- canonical results

TYPES = ["Undefined", "Error", "Boolean", "Integer", "Real", "String", "AbsTime", "RelTime", "List", "ClassAd"]


MADE_NAMES = ["a", "Day", "Days", "Hours", "Minutes", "Month", "Offset", "Seconds", "Type", "Year"]


class Failure(Exception):
    """The library gave up, for example because of a circle."""


def value_of(text, scope):
    try:
        return classad.ExprTree(text).eval(scope)
    except classad.ClassAdEvaluationError as error:
        raise Failure from error


def canonical(text, scope):
    """The canonical form of an expression's value; all questions are asked in the language itself."""
    kinds = [t for t in TYPES if value_of(f"is{t}({text}\n)", scope) is True]
    if len(kinds) != 1:
        raise RuntimeError(f"{text}: types {kinds}")
    kind = kinds[0].lower()
    if kind in ("undefined", "error"):
        return kind
    if kind == "string":
        return "string:" + json.dumps(value_of(text, scope))
    if kind == "reltime":
        return "reltime:" + repr(float(value_of(text, scope)))
    if kind == "list":
        count = value_of(f"size({text}\n)", scope)
        return "list:[" + ",".join(canonical(f"({text}\n)[{i}]", scope) for i in range(count)) + "]"
    if kind == "classad":
        names = sorted(dict(value_of(text, scope)), key=str.lower)
        if not names:  # ads made by functions cannot be listed from Python
            names = [n for n in MADE_NAMES if value_of(f"isUndefined(({text}\n)[\"{n}\"])", scope) is False]
        return "ad:{" + ",".join(f"{n.lower()}=" + canonical(f"({text}\n)[\"{n}\"]", scope) for n in names) + "}"
    return kind + ":" + value_of(f"string({text}\n)", scope)


def answer(text, scope):
    try:
        classad.ExprTree(text)
    except (classad.ClassAdParseError, SyntaxError, ValueError):
        return "unparsable"
    try:
        return canonical(text, scope)
    except Failure:
        return "failure"


# ---------------------------------------------------------------- files

def lines(block):
    return [line for line in block.split("\n") if line.strip()]


def field(text):
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def write(folder, name, rows):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
        out.write(f"# HTCondor ClassAd library {classad.version()}; made by generate.py\n")
        for row in rows:
            out.write("\t".join(field(cell) for cell in row) + "\n")


def expressions():
    for text in lines(LITERALS) + lines(CALLS):
        yield "-", text
    for op in BINARY:
        for left, right in itertools.product(VALUES, VALUES):
            yield "-", f"{left} {op} {right}"
    for op, value in itertools.product("+-!~", VALUES):
        yield "-", f"{op}({value})"
    for value in VALUES:
        yield "-", f"{value} ? 1 : 2"
        yield "-", f"{value} ?: 7"
        for index in VALUES:
            yield "-", f"({value})[{index}]"
        yield "-", f"({value}).a"
    for name, counts in FUNCTIONS.items():
        for count in counts:
            values = {0: [], 1: ONE, 2: TWO, 3: THREE}[count]
            for args in itertools.product(values, repeat=count):
                yield "-", f"{name}({','.join(args)})"
    for text in lines(IN_JOB):
        yield "job", text


def evaluate_rows():
    scopes = {name: classad.ClassAd(text) for name, text in CONTEXTS.items()}
    for name, text in CONTEXTS.items():
        yield ["context", name, text]
    for name, text in dict.fromkeys(expressions()):
        yield ["eval", name, text, answer(text, scopes[name])]


def match_rows():
    my, target = classad.ClassAd(MATCH_MY), classad.ClassAd(MATCH_TARGET)
    yield ["my", MATCH_MY]
    yield ["target", MATCH_TARGET]

    def ask(text):
        return classad.ExprTree(text).simplify(my, target).eval()

    for text in lines(MATCH):
        try:
            kinds = [t.lower() for t in TYPES if ask(f"is{t}({text})") is True]
            kind = kinds[0] if len(kinds) == 1 else "failure"
            exceptional = kind in ("undefined", "error", "failure")
            yield ["eval", text, kind if exceptional else f"{kind}:" + ask(f"string({text})")]
        except classad.ClassAdEvaluationError:
            yield ["eval", text, "failure"]


def print_rows():
    for text in lines(PRINT):
        expr = classad.ExprTree(text)
        ad = classad.ClassAd()
        ad["A"] = expr
        new = classad.ExprTree(f"string([ A = {text} ])").eval()
        yield [text, new, ad.printOld(), ad.printJson()]


def old_rows():
    for text in OLD:
        try:
            ad = classad.parseOne(text, parser=classad.Parser.Old)
        except (classad.ClassAdParseError, SyntaxError, ValueError):
            yield [text, "unparsable"]
            continue
        try:
            yield [text, canonical("A", ad) if "A" in ad else "absent"]
        except Failure:
            yield [text, "failure"]


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    write(folder, "evaluate.tsv", evaluate_rows())
    write(folder, "match.tsv", match_rows())
    write(folder, "print.tsv", print_rows())
    write(folder, "old.tsv", old_rows())


if __name__ == "__main__":
    main()
