"""Names that C and C++ keep for themselves, and what a kernel's names become beside them."""

import re
from collections.abc import Container

_KEYWORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t
char32_t class co_await co_return co_yield compl concept const const_cast consteval constexpr
constinit continue decltype default delete do double dynamic_cast else enum explicit export extern
false float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr
operator or or_eq private protected public register reinterpret_cast requires restrict return short
signed sizeof static static_assert static_cast struct switch template this thread_local throw true
try typedef typeid typename typeof typeof_unqual union unsigned using virtual void volatile wchar_t
while xor xor_eq
"""
# Macros without arguments of the standard headers, POSIX and what GNU compilers predefine: they
# would be replaced wherever they stand.
_MACROS = """
errno NULL EOF BUFSIZ FILENAME_MAX FOPEN_MAX L_tmpnam SEEK_CUR SEEK_END SEEK_SET TMP_MAX stdin
stdout stderr EXIT_FAILURE EXIT_SUCCESS RAND_MAX MB_CUR_MAX MB_LEN_MAX CLOCKS_PER_SEC NDEBUG
CHAR_BIT CHAR_MAX CHAR_MIN INT_MAX INT_MIN LONG_MAX LONG_MIN LLONG_MAX LLONG_MIN SCHAR_MAX SCHAR_MIN
SHRT_MAX SHRT_MIN UCHAR_MAX UINT_MAX ULONG_MAX ULLONG_MAX USHRT_MAX SIZE_MAX SSIZE_MAX PTRDIFF_MAX
INT8_MAX INT8_MIN INT16_MAX INT16_MIN INT32_MAX INT32_MIN INT64_MAX INT64_MIN UINT8_MAX UINT16_MAX
UINT32_MAX UINT64_MAX INTPTR_MAX UINTPTR_MAX INTMAX_MAX UINTMAX_MAX FLT_MAX FLT_MIN FLT_EPSILON
FLT_DIG FLT_RADIX DBL_MAX DBL_MIN DBL_EPSILON DBL_DIG LDBL_MAX DECIMAL_DIG HUGE_VAL HUGE_VALF
HUGE_VALL INFINITY NAN FP_NAN FP_INFINITE FP_ZERO FP_SUBNORMAL FP_NORMAL MATH_ERRNO MATH_ERREXCEPT
math_errhandling DOMAIN OVERFLOW UNDERFLOW SING PLOSS TLOSS M_E M_LOG2E M_LOG10E M_LN2 M_LN10 M_PI
M_PI_2 M_PI_4 M_1_PI M_2_PI M_2_SQRTPI M_SQRT2 M_SQRT1_2 I complex imaginary bool true false alignas
alignof noreturn thread_local static_assert EDOM ERANGE EILSEQ EINVAL ENOMEM EAGAIN EINTR EIO EPERM
ENOENT EACCES EEXIST EPIPE ENOSYS SIGABRT SIGFPE SIGILL SIGINT SIGSEGV SIGTERM SIG_DFL SIG_ERR
SIG_IGN LC_ALL LC_NUMERIC TIME_UTC PATH_MAX NAME_MAX PIPE_BUF IOV_MAX PAGE_SIZE environ sa_handler
s6_addr st_atime st_mtime st_ctime linux unix i386 near far interface small IN OUT TRUE FALSE min
max
"""
# Functions that a program's own would replace or clash with, so that no object defines one.
_FUNCTIONS = """
main abort abs atexit atof atoi atol atoll bsearch calloc div exit free getenv labs ldiv llabs lldiv
malloc mblen qsort rand random realloc srand strtod strtof strtol strtold strtoll strtoul strtoull
system clearerr fclose feof ferror fflush fgetc fgets fopen fprintf fputc fputs fread freopen fscanf
fseek ftell fwrite getc getchar gets perror printf putc putchar puts remove rename rewind scanf
setbuf setvbuf snprintf sprintf sscanf tmpfile tmpnam ungetc vfprintf vprintf vsnprintf vsprintf
memccpy memchr memcmp memcpy memmove memset strcat strchr strcmp strcoll strcpy strcspn strdup
strerror strlen strncat strncmp strncpy strpbrk strrchr strspn strstr strtok strxfrm bcmp bcopy
bzero index rindex ffs asctime clock ctime difftime gmtime localtime mktime strftime time signal
raise acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp2 expm1
fabs fdim floor fma fmax fmin fmod frexp gamma hypot ilogb isinf isnan j0 j1 jn ldexp lgamma llrint
llround log log10 log1p log2 logb lrint lround modf nan nearbyint nextafter nexttoward pow remainder
remquo rint round scalb scalbln scalbn significand sin sinh sqrt tan tanh tgamma trunc y0 y1 yn drem
finite accept access alarm bind brk chdir chmod chown close connect creat dup dup2 execl execv fork
getpid ioctl isatty kill link listen lseek mkdir mmap mprotect munmap nice open pause pipe poll read
recv rmdir sbrk select send shutdown sleep socket stat swab sync truncate unlink usleep wait write
dlopen dlsym dlclose isalnum isalpha isdigit islower isspace isupper tolower toupper
"""
_TAKEN = frozenset((_KEYWORDS + _MACROS).split())
# C gives the float and long double forms of its functions to itself too.
_TAKEN_SYMBOLS = frozenset(
    name + suffix for name in _FUNCTIONS.split() for suffix in ("", "f", "l")
)


def field(name: str, others: Container[str] = ()) -> str:
    """A parameter's name as a member of a struct. Python's names may have letters that C's lack."""
    made = re.sub(r"[^A-Za-z0-9_]", "_", name)
    if made in _TAKEN or made.startswith("__") or re.match(r"_[A-Z]", made) or made[0].isdigit():
        # Whatever begins with two underscores, or with one and a capital, is the compiler's.
        made = f"{made.lstrip('_') or 'arg'}_"
        if made[0].isdigit():
            made = f"arg{made}"
    while made in others:
        made += "_"
    return made


def symbol(name: str) -> str:
    """A kernel's name as one that a linker knows it by."""
    made = field(name)
    return f"{made}_" if made in _TAKEN_SYMBOLS else made
